package authserver

import (
	"net/http"
	"time"
)

// note is what the next page says once about what has just been done. It goes in a
// sealed cookie that one login alone can open, and not in the address: whoever hands
// somebody a link must not be able to have our pages say that something was done.
type note struct {
	Did     string `json:"d"`           // how its text is called, after done_ or connect_
	Account string `json:"a,omitempty"` // that it is about
	Request string `json:"r,omitempty"` // under which the operator finds what failed
}

// notice is a note as a page shows it.
type notice struct {
	Text string
	Bad  bool
}

const (
	purposeNote = "note to "
	noteLife    = 2 * time.Minute
)

// remark leaves a note for the next page of this login.
func (s *Server) remark(w http.ResponseWriter, c *call, who *visitor, n note) error {
	sealed, err := s.box.seal(purposeNote+base64Hash(string(who.Hash)), n, noteLife)
	if err == nil {
		c.policy.setCookie(w, cookieNote, sealed, noteLife)
	}
	return err
}

// remarked takes the note that was left for this login, once; nil when there is none.
// A note about an account that is not among those of the page says nothing.
func (s *Server) remarked(w http.ResponseWriter, r *http.Request, c *call, who *visitor, accounts []UpstreamAccount) *notice {
	sealed := c.policy.cookie(r, cookieNote)
	if sealed == "" {
		return nil
	}
	c.policy.setCookie(w, cookieNote, "", -1)
	var n note
	if s.box.open(purposeNote+base64Hash(string(who.Hash)), sealed, &n) != nil {
		return nil
	}
	lang := c.langs[0]
	if n.Account == "" {
		return &notice{Text: textf(lang, "done_"+n.Did)}
	}
	for _, a := range accounts {
		switch {
		case a.ID != n.Account:
		case n.Request != "":
			return &notice{Text: textf(lang, "connect_failed", a.Name, n.Request), Bad: true}
		default:
			return &notice{Text: textf(lang, "connect_"+n.Did, a.Name), Bad: n.Did != "ok"}
		}
	}
	return nil
}
