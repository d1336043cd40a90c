package telemetry

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kidoban/kidoban"
)

// Hook is one receiver of alerts.
type Hook struct {
	Name   string           // for logs; the URL may hold a secret
	URL    string           // https, or http where its guard allows it
	Secret string           // signs each body; empty sends none
	Slack  bool             // {"text": …} instead of the alert as it is
	Least  kidoban.Severity // alerts below are not sent; empty sends all
	Client *http.Client     // the guarded way out, which follows no redirects and has a timeout; owned by the caller
}

const (
	hookQueue = 256 // alerts that may wait for one receiver
	hookTries = 12  // with doubled waits from one second: over an hour
	hookWait  = 10 * time.Minute
)

// Webhooks sends alerts to receivers, each from a queue and a goroutine of its
// own, so that one that is away holds up no other. Every alert is in the
// database before it comes here; what a crash or a full queue loses is there.
// It is safe for concurrent use.
type Webhooks struct {
	ctx  context.Context
	stop context.CancelFunc
	done sync.WaitGroup
	log  *slog.Logger
	now  func() time.Time

	mu sync.RWMutex // held while a queue is written, and to close one
	to []*receiver
}

// receiver is a hook with what waits for it.
type receiver struct {
	hook atomic.Pointer[Hook]
	wait chan kidoban.Alert
	ctx  context.Context
	stop context.CancelFunc
}

// NewWebhooks starts a goroutine for each hook; Close ends them.
func NewWebhooks(hooks []Hook, now func() time.Time, log *slog.Logger) *Webhooks {
	ctx, stop := context.WithCancel(context.Background())
	w := &Webhooks{ctx: ctx, stop: stop, log: log, now: now}
	w.Change(hooks)
	return w
}

// Change puts other hooks in the place of those that there are. One of the same name
// gets what waited for the old one, with the secret and the URL of the new; what waits
// for a name that is no more is in the database alone.
func (w *Webhooks) Change(hooks []Hook) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.to
	w.to = nil
	for _, h := range hooks {
		i := slices.IndexFunc(old, func(r *receiver) bool { return r.hook.Load().Name == h.Name })
		if i >= 0 {
			r := old[i]
			old = slices.Delete(old, i, i+1)
			r.hook.Swap(&h).Client.CloseIdleConnections()
			w.to = append(w.to, r)
			continue
		}
		r := &receiver{wait: make(chan kidoban.Alert, hookQueue)}
		r.hook.Store(&h)
		r.ctx, r.stop = context.WithCancel(w.ctx)
		w.to = append(w.to, r)
		w.done.Go(func() { w.run(r) })
	}
	for _, r := range old {
		r.stop()
		close(r.wait)
	}
}

// Send hands an alert to every hook that wants it. It never waits.
func (w *Webhooks) Send(a kidoban.Alert) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, r := range w.to {
		h := r.hook.Load()
		if h.Least != "" && a.Kind.Severity().Rank() < h.Least.Rank() {
			continue
		}
		select {
		case r.wait <- a:
		default:
			w.log.Warn("webhook queue is full, an alert is only in the console", "webhook", h.Name, "alert", a.ID)
		}
	}
}

// Close waits for what is under way until ctx ends, then gives up.
func (w *Webhooks) Close(ctx context.Context) {
	w.mu.Lock()
	for _, r := range w.to {
		close(r.wait)
	}
	w.to = nil
	w.mu.Unlock()
	ended := make(chan struct{})
	go func() { w.done.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	w.stop()
	<-ended
}

func (w *Webhooks) run(r *receiver) {
	defer r.stop()
	for a := range r.wait {
		wait := time.Second
		for try := 1; ; try++ {
			h := *r.hook.Load()
			again, err := w.post(r.ctx, h, a)
			if err == nil || r.ctx.Err() != nil {
				break
			}
			if !again || try == hookTries {
				w.log.Warn("webhook refused an alert; it is in the console", "webhook", h.Name, "alert", a.ID, "error", err)
				break
			}
			select {
			case <-time.After(wait):
			case <-r.ctx.Done():
			}
			wait = min(2*wait, hookWait)
		}
		if r.ctx.Err() != nil {
			return
		}
	}
}

// post sends one alert and tells whether trying again may help.
func (w *Webhooks) post(ctx context.Context, h Hook, a kidoban.Alert) (again bool, err error) {
	body, err := Body(a, h.Slack)
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return false, kidoban.Errorf(kidoban.KindUsage, "its URL cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "kidoban/"+kidoban.Version)
	req.Header.Set("X-Kidoban-Event", "alert")
	req.Header.Set("X-Kidoban-Delivery", a.ID)
	if h.Secret != "" {
		req.Header.Set("X-Kidoban-Signature", Sign(h.Secret, w.now(), body))
	}
	resp, err := h.Client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // the URL may hold a secret
		}
		return true, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	if s := resp.StatusCode; s < 200 || s > 299 {
		return s == http.StatusTooManyRequests || s == http.StatusRequestTimeout || s >= 500, kidoban.Errorf(kidoban.KindUnreachable, "it answered %d", s)
	}
	return false, nil
}

// Body is what a hook receives. For Slack and the many that read its format it is
// one text; the subject is quoted, since a stranger may have chosen it.
func Body(a kidoban.Alert, slack bool) ([]byte, error) {
	severity := a.Kind.Severity()
	if slack {
		return json.Marshal(map[string]string{"text": "[" + string(severity) + "] " + escapeSlack(a.Text) + "\nWhat to do: " + escapeSlack(a.Do)})
	}
	return json.Marshal(struct {
		kidoban.Alert
		Severity kidoban.Severity `json:"severity"`
	}{a, severity})
}

// escapeSlack keeps a stranger's text from becoming a link or a mention.
func escapeSlack(s string) string {
	out := make([]rune, 0, len(s))
	for _, r := range s {
		switch r {
		case '&':
			out = append(out, []rune("&amp;")...)
		case '<':
			out = append(out, []rune("&lt;")...)
		case '>':
			out = append(out, []rune("&gt;")...)
		default:
			out = append(out, r)
		}
	}
	return string(out)
}

// Sign is the signature header: the time in Unix seconds, and HMAC-SHA256 under
// the secret over time, a dot and the body, in hex. A receiver compares in
// constant time and refuses times more than some minutes off.
func Sign(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
