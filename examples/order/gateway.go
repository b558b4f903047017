package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Gateway asks a card provider. Its zero Client is http.DefaultClient.
type Gateway struct {
	URL    string
	Client http.Client
}

// keyHeader carries the idempotency key of a request.
const keyHeader = "Idempotency-Key"

// maxAnswer is more than the number of a charge has.
const maxAnswer = 1 << 10

// Charge charges a card, once per key, and returns the provider's number of the charge. ErrDeclined is the provider's
// decision. After any other error the card may have been charged: ask again with the same key.
func (g Gateway) Charge(ctx context.Context, key, card string, cents int64) (string, error) {
	form := url.Values{"card": {card}, "cents": {strconv.FormatInt(cents, 10)}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set(keyHeader, key)
	response, err := g.Client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch {
	case err != nil:
		return "", err
	case response.StatusCode == http.StatusPaymentRequired:
		return "", ErrDeclined
	case response.StatusCode != http.StatusOK || len(answer) == 0:
		return "", fmt.Errorf("the card provider answered %s: %.100s", response.Status, answer)
	}
	return string(answer), nil
}
