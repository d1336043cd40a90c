package gateway

import (
	"errors"
	"strconv"
)

// A number is a few bytes of JSON however large it is: to know whether 1e999999 is an
// integer, a validator writes it out, and a list of them would keep a processor busy for
// an hour. No double is larger than 1e308, and no key longer than some thousand digits.
const (
	maxExponent = 400
	maxDigits   = 5000
)

var errHeavy = errors.New("a number has an exponent beyond 400 or more than 5000 digits")

// heavyNumber tells whether JSON that was read strictly holds a number beyond these.
func heavyNumber(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"':
			for i++; i < len(raw) && raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
		case c == '-' || c >= '0' && c <= '9':
			from, exp := i, 0
			for ; i < len(raw) && inNumber(raw[i]); i++ {
				if raw[i] == 'e' || raw[i] == 'E' {
					exp = i + 1
				}
			}
			if i-from > maxDigits {
				return true
			}
			if exp > 0 {
				n, err := strconv.Atoi(string(raw[exp:i]))
				if err != nil || n > maxExponent || n < -maxExponent {
					return true
				}
			}
			i--
		}
	}
	return false
}

func inNumber(c byte) bool {
	return c >= '0' && c <= '9' || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E'
}
