package main

import (
	"fmt"
	"net/http"
	"sync"
)

// Provider plays a card provider: an HTTP server that makes one charge per idempotency key. Asked again with a key, it
// answers with the charge that was made. It declines the card "stolen".
type Provider struct {
	// Watch is called at each moment of a request, which waits until it returns. It may be nil.
	Watch func(m Moment)

	mu      sync.Mutex // guards what follows
	asked   int
	charges map[string]request // what was charged, by the charge's number
	numbers map[string]string  // of charges, by key
}

// request is what a charge was made for.
type request struct{ key, card, cents string }

// Moment is where a request is.
type Moment int

// The moments of a request, in their order.
const (
	Asked    Moment = iota // and nothing is charged yet
	Charged                // and nobody was told
	Answered               // the answer is on its way
)

// ServeHTTP charges a card.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	asked := request{r.Header.Get(keyHeader), r.PostFormValue("card"), r.PostFormValue("cents")}
	p.at(Asked)
	number, status := p.charge(asked)
	if status != http.StatusOK {
		http.Error(w, http.StatusText(status), status)
		return
	}
	p.at(Charged)
	fmt.Fprint(w, number)
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	p.at(Answered)
}

func (p *Provider) at(m Moment) {
	if p.Watch != nil {
		p.Watch(m)
	}
}

func (p *Provider) charge(asked request) (number string, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	number, again := p.numbers[asked.key]
	switch {
	case asked.key == "" || asked.card == "" || asked.cents == "":
		return "", http.StatusBadRequest
	case again && p.charges[number] != asked:
		return "", http.StatusConflict // the key of another request
	case again:
		return number, http.StatusOK
	case asked.card == "stolen":
		return "", http.StatusPaymentRequired
	}
	if p.charges == nil {
		p.charges, p.numbers = map[string]request{}, map[string]string{}
	}
	number = fmt.Sprintf("charge-%d", len(p.charges)+1)
	p.charges[number], p.numbers[asked.key] = asked, number
	return number, http.StatusOK
}

// Count tells how often the provider was asked, and how many charges it made.
func (p *Provider) Count() (asked, charges int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked, len(p.charges)
}

// Of tells what a card was charged for, a number for each charge.
func (p *Provider) Of(card string) (numbers []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for number, r := range p.charges {
		if r.card == card {
			numbers = append(numbers, number)
		}
	}
	return numbers
}
