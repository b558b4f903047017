package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
)

// sure is asked for by what cannot be taken back.
type sure struct {
	Yes bool `short:"y" help:"Do it without a question: it cannot be taken back."`
}

// confirmed asks whether to do it, at a terminal. Elsewhere nobody is there to answer, and --yes is needed.
func (s sure) confirmed(t *tool, what string, args ...any) error {
	if s.Yes {
		return nil
	}
	for i, a := range args {
		args[i] = shownValue(a)
	}
	what = fmt.Sprintf(what, args...)
	switch yes, asked := t.ask("This will " + what + ". Do it? [y/N] "); {
	case yes:
		return nil
	case asked:
		return errors.New("nothing was done")
	}
	return fmt.Errorf("nothing was done; with --yes it will %s", what)
}

// askTerminal asks at the terminal, if there is one.
func askTerminal(question string) (yes, asked bool) {
	if !isTerminal(os.Stdin) || !isTerminal(os.Stderr) {
		return false, false
	}
	fmt.Fprint(os.Stderr, question)
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return err == nil && (answer == "y" || answer == "yes"), true
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 || os.Getenv("TERM") == "" {
		return false
	}
	null, err := os.Stat(os.DevNull) // which is such a device, too
	return err != nil || !os.SameFile(info, null)
}
