package audit_test

import (
	"context"
	"net/http"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
)

// TestE20eSlowToForget: a server whose cache keeps a deleted client for a while is not
// called weak for it; one that keeps it is, after a second look.
func TestE20eSlowToForget(t *testing.T) {
	for _, slow := range []bool{true, false} {
		var deleted sync.Map // client ids
		var later atomic.Bool
		lo := lab.Options{Flaws: []string{"E20-e"}, Front: func(_ string, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodDelete {
					deleted.Store(path.Base(r.URL.Path), true)
				}
				if _, gone := deleted.Load(r.URL.Query().Get("client_id")); slow && gone && later.Load() {
					http.Error(w, "unknown client", http.StatusBadRequest)
					return
				}
				next.ServeHTTP(w, r)
			})
		}}
		r, _ := runLab(t, lo, func(o *audit.Options) {
			o.Only, o.Patience = []string{"E20-e"}, time.Minute
			o.Wait = func(context.Context, time.Duration) error {
				later.Store(true)
				return nil
			}
		})
		x := result(t, r, "E20-e")
		if slow && (x.Outcome != kidoban.Inconclusive || !strings.Contains(x.Summary, "slowly")) || !slow && x.Outcome != kidoban.Fail {
			t.Errorf("slow %v: %s(%s): %s", slow, x.Outcome, x.Reason, x.Summary)
		}
		if !later.Load() {
			t.Error("nobody looked again")
		}
	}
}
