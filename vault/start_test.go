package vault

import (
	"context"
	"sync"
	"testing"

	"github.com/tink-crypto/tink-go/v2/testing/fakekms"
)

// TestGVA4_OneRingWhenManyStartAtAService: many processes start at once over an empty
// shelf. One makes the keys and all seal with them: what was sealed with others would
// never open again.
func TestGVA4_OneRingWhenManyStartAtAService(t *testing.T) {
	uri, err := fakekms.NewKeyURI()
	if err != nil {
		t.Fatal(err)
	}
	client, err := fakekms.NewClient(uri)
	if err != nil {
		t.Fatal(err)
	}
	shelf := &rush{memory: &memory{}, all: 16, here: [2]chan struct{}{make(chan struct{}), make(chan struct{})}}
	var wg sync.WaitGroup
	sealed := make(chan []byte, shelf.all)
	for range shelf.all {
		wg.Go(func() {
			v, err := Open(context.Background(), KMS(client, uri, shelf))
			if err != nil {
				t.Error(err)
				return
			}
			raw, err := v.Seal(context.Background(), alice, []byte("secret"))
			if err != nil {
				t.Error(err)
			}
			sealed <- raw
		})
	}
	wg.Wait()
	close(sealed)
	v, err := Open(t.Context(), KMS(client, uri, shelf))
	if err != nil {
		t.Fatal(err)
	}
	for raw := range sealed {
		if got, err := v.Unseal(t.Context(), alice, raw); err != nil || string(got) != "secret" {
			t.Errorf("%q %v", got, err)
		}
	}
}

// rush is a shelf that everybody finds empty, when they look for keys and again before
// they put theirs there.
type rush struct {
	*memory
	all, n int
	here   [2]chan struct{} // closed when all have looked for the first and the second time
}

func (r *rush) Ring(ctx context.Context) ([]byte, error) {
	ring, err := r.memory.Ring(ctx)
	r.mu.Lock()
	look := r.n / r.all
	r.n++
	if look < len(r.here) && r.n == (look+1)*r.all {
		close(r.here[look])
	}
	r.mu.Unlock()
	if look < len(r.here) {
		<-r.here[look]
	}
	return ring, err
}
