package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// ssePipe is the transport of revision 2024-11-05: one stream of events down,
// whose first event names the address that messages are posted to.
type ssePipe struct {
	to     *line
	post   *url.URL
	body   io.Closer
	in     *wire.EventReader
	cancel context.CancelFunc
}

var errPostRefused = errors.New("the server refused a message")

// openSSE opens the stream and waits for the endpoint. The endpoint must be at
// the server's own origin: everything goes there, credentials included.
func openSSE(ctx context.Context, to *line, max int) (*ssePipe, error) {
	s := to.s
	life, cancel := context.WithCancel(context.Background()) // ended by close
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	resp, err := to.send(life, func(h http.Header) *http.Request {
		h.Set("Accept", "text/event-stream")
		return (&http.Request{Method: http.MethodGet, URL: s.url, Host: s.url.Host, Header: h}).WithContext(life)
	})
	if err != nil {
		cancel()
		return nil, err
	}
	p := &ssePipe{to: to, body: resp.Body, in: wire.NewEventReader(s.paced(life, to.who, resp.Body), max), cancel: cancel}
	if resp.StatusCode != http.StatusOK {
		p.close()
		return nil, statusError(resp.StatusCode)
	}
	ev, err := p.in.Next()
	if err != nil || ev.Type != "endpoint" {
		p.close()
		return nil, kidoban.Errorf(kidoban.KindInput, "The server does not speak HTTP+SSE.")
	}
	if p.post, err = s.url.Parse(string(ev.Data)); err != nil || p.post.Scheme != s.url.Scheme || p.post.Host != s.url.Host || p.post.User != nil {
		p.close()
		return nil, kidoban.Errorf(kidoban.KindRefused, "The server wants messages to be sent to another host.")
	}
	return p, nil
}

func statusError(status int) error {
	return kidoban.Errorf(kidoban.KindInput, "The server answered with status %d.", status)
}

func (p *ssePipe) send(ctx context.Context, msg []byte) error {
	resp, err := p.to.send(ctx, func(h http.Header) *http.Request {
		h.Set("Content-Type", "application/json")
		return (&http.Request{Method: http.MethodPost, URL: p.post, Host: p.post.Host, Header: h, ContentLength: int64(len(msg)), Body: io.NopCloser(bytes.NewReader(msg))}).WithContext(ctx)
	})
	if err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return errPostRefused
	}
	return nil
}

func (p *ssePipe) recv() ([]byte, error) {
	for {
		ev, err := p.in.Next()
		if err != nil {
			return nil, err
		}
		if ev.Type == "" || ev.Type == "message" {
			return p.to.clean(ev.Data), nil
		}
	}
}

func (p *ssePipe) close() {
	p.cancel()
	p.body.Close()
}
