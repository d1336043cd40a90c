package outbound_test

import (
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// TestRecorderConceals: what was entrusted leaves no trace, wherever it stands and
// however it is escaped: no prefix, no hash.
func TestRecorderConceals(t *testing.T) {
	const secret = `k3y+/with "odd" <signs>`
	r := outbound.NewRecorder()
	r.Conceal(secret)
	given := kidoban.Fields{{Name: "X-Corp", Value: secret}, {Name: "X-Api-Key", Value: secret}, {Name: "Authorization", Value: "Bearer " + secret}}
	x := kidoban.Exchange{ID: 1,
		Request: kidoban.Request{Method: "POST", URL: "https://a.example/mcp?q=k3y%2B%2Fwith+%22odd%22+%3Csigns%3E", Header: given, Body: []byte("x" + secret)},
		Response: &kidoban.Response{Status: 200, Header: kidoban.Fields{{Name: "X-Echo", Value: secret}},
			Body: []byte(`{"echo":"k3y+/with \"odd\" <signs>","page":"k3y+/with &#34;odd&#34; &lt;signs&gt;"}`)},
		Err: "dial: " + secret}
	r.Add(x)
	var har strings.Builder
	if err := r.WriteHAR(&har); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{"k3y", "odd", "sha256"} {
		if strings.Contains(har.String(), left) {
			t.Errorf("%q is left in %s", left, har.String())
		}
	}
	if given[0].Value != secret || string(x.Response.Body[:6]) != `{"echo` {
		t.Error("the caller's exchange was changed")
	}
	if got := outbound.Without("no "+secret+" here", secret); got != "no …redacted here" {
		t.Error(got)
	}
}
