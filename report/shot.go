package report

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/kidoban/kidoban"
)

// Shot is one page of a login as a person saw it: evidence beside the exchanges.
type Shot struct {
	XID   int    `json:"exchange"` // of the document
	Check string `json:"check"`    // key of the check it was taken for; "F6" for several
	Note  string `json:"note"`     // which step of which walk
	URL   string `json:"url"`      // without its query
	Title string `json:"title"`
	Text  string `json:"text"` // as rendered, at most 8 KiB
	File  string `json:"file,omitempty"`
	PNG   []byte `json:"-"` // nil without a real browser
}

// Names of the login's pages in a run's directory.
const (
	ShotsFile = "pages.json"
	shotsDir  = "pages"
)

// Bounds of pictures: of one, and of all in one HTML report.
const (
	maxShot     = 256 << 10
	maxShots    = 3 << 20
	shotsAChain = 4
	maxShotList = 4 << 20
)

// SaveShots writes the pages of a login into a run's directory: pages.json with the
// texts, and one PNG each.
func SaveShots(dir string, shots []Shot) error {
	if len(shots) == 0 {
		return nil
	}
	fail := func(err error) error {
		return kidoban.Wrap(kidoban.KindUsage, err, "the pages of the login cannot be written")
	}
	if err := os.MkdirAll(filepath.Join(dir, shotsDir), 0o700); err != nil {
		return fail(err)
	}
	list := slices.Clone(shots)
	for i := range list {
		if len(list[i].PNG) == 0 {
			continue
		}
		list[i].File = filepath.Join(shotsDir, fmt.Sprintf("%03d.png", i+1))
		if err := os.WriteFile(filepath.Join(dir, list[i].File), list[i].PNG, 0o600); err != nil {
			return fail(err)
		}
	}
	raw, err := json.MarshalIndent(list, "", " ")
	if err != nil {
		return fail(err)
	}
	return fail(os.WriteFile(filepath.Join(dir, ShotsFile), append(raw, '\n'), 0o600))
}

// loadShots reads what SaveShots wrote; a run without a login has none.
func loadShots(dir string) ([]Shot, error) {
	raw, err := os.ReadFile(filepath.Join(dir, ShotsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []Shot
	if err != nil || len(raw) > maxShotList || json.Unmarshal(raw, &out) != nil {
		return nil, kidoban.Errorf(kidoban.KindInput, "%s in the run's directory cannot be read", ShotsFile)
	}
	for i := range out {
		if out[i].File == "" || filepath.Dir(out[i].File) != shotsDir { // nothing outside is opened
			continue
		}
		if st, err := os.Stat(filepath.Join(dir, out[i].File)); err != nil || st.Size() > maxShotList {
			continue
		}
		if out[i].PNG, err = os.ReadFile(filepath.Join(dir, out[i].File)); err != nil {
			out[i].PNG = nil // the text is evidence too
		}
	}
	return out, nil
}

// shotView is a picture in the HTML report.
type shotView struct {
	Src     template.URL
	Caption string
	Alt     string
}

// shotsOf picks the pictures that belong to a chain: pages taken for its checks, or
// that its findings name. room is what is left of the report's bound.
func (in Input) shotsOf(c kidoban.Chain, room *int) []shotView {
	named := map[int]bool{}
	for _, r := range in.Run.Results {
		if slices.Contains(c.Checks, r.Key()) {
			for _, id := range r.Exchanges {
				named[id] = true
			}
		}
	}
	var out []shotView
	seen := map[string]bool{}
	for _, s := range in.Shots {
		if len(out) == shotsAChain || len(s.PNG) == 0 || len(s.PNG) > maxShot || len(s.PNG) > *room || !isPNG(s.PNG) {
			continue
		}
		if !slices.Contains(c.Checks, s.Check) && !named[s.XID] || seen[string(s.PNG)] {
			continue
		}
		seen[string(s.PNG)] = true
		*room -= len(s.PNG)
		out = append(out, shotView{Src: template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(s.PNG)),
			Caption: Clean(fmt.Sprintf("%s: %s (%s) #%d", s.Note, s.Title, s.URL, s.XID), 200), Alt: Clean(s.Text, 300)})
	}
	return out
}

func isPNG(b []byte) bool { return len(b) > 8 && string(b[:8]) == "\x89PNG\r\n\x1a\n" }
