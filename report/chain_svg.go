package report

import (
	"strings"

	"github.com/kidoban/kidoban"
)

// actors are the parties of a chain drawing, from left to right.
var actors = [...]struct{ key, name string }{
	{"attacker", "attacker"}, {"victim", "victim"}, {"client", "client"},
	{"mcp_server", "MCP server"}, {"as", "auth server"}, {"upstream", "upstream"},
}

// Geometry of the drawing, in SVG units.
const (
	lane, headRow, hopRow = 152, 46, 44
	boxW                  = 140
)

// drawing is a chain as a sequence of arrows between the parties.
type drawing struct {
	Width, Height int
	Title         string
	Actors        []drawnActor
	Hops          []drawnHop
}

type drawnActor struct {
	Name         string
	X, BoxX, End int
	Hostile      bool
}

type drawnHop struct {
	N, Y, X1, X2, MidX int
	TextY              int
	Head               string // points of the arrow head
	Self               bool   // From and To are the same party
	Loop               string // path of a self arrow
	Proven             bool
	Label              string
	Href               string // "#x12", "" without evidence
}

// draw lays a chain out. The parties of every flow are shown even when the
// attack passes them by: that, too, says something. Unknown parties are drawn as the client; hops link to
// the exchanges that are known.
func draw(c kidoban.Chain, known func(int) bool) drawing {
	used := map[string]bool{"attacker": true, "client": true, "mcp_server": true, "as": true}
	for _, h := range c.Hops {
		used[party(h.From)], used[party(h.To)] = true, true
	}
	d := drawing{Title: Clean(c.Title, maxSummary)}
	x := map[string]int{}
	d.Height = headRow + len(c.Hops)*hopRow + 20
	for _, a := range actors {
		if !used[a.key] {
			continue
		}
		x[a.key] = lane/2 + len(d.Actors)*lane
		d.Actors = append(d.Actors, drawnActor{Name: a.name, X: x[a.key], BoxX: x[a.key] - boxW/2, End: d.Height - 8, Hostile: a.key == "attacker"})
	}
	d.Width = len(d.Actors) * lane
	for i, h := range c.Hops {
		d.Hops = append(d.Hops, drawHop(i, h, x, d.Width, known))
	}
	return d
}

func party(name string) string {
	for _, a := range actors {
		if a.key == name {
			return name
		}
	}
	return "client"
}

func drawHop(i int, h kidoban.Hop, x map[string]int, width int, known func(int) bool) drawnHop {
	y := headRow + (i+1)*hopRow - 6
	d := drawnHop{N: i + 1, Y: y, TextY: y - 7, X1: x[party(h.From)], X2: x[party(h.To)], Proven: h.Proven}
	if known(h.XID) {
		d.Href = anchor(h.XID)
	}
	label := h.Check
	if label == "" {
		label = "follows"
	}
	d.Label = Clean(label, 16)
	if h.XID > 0 {
		d.Label += " #" + itoa(h.XID)
	}
	if d.X1 == d.X2 {
		d.Self = true
		out := 34 // the loop turns inward at the right edge
		if d.X1+out+8 > width {
			out = -out
		}
		d.Loop = "M" + itoa(d.X1) + " " + itoa(y-14) + " h" + itoa(out) + " v14 h" + itoa(-out)
		d.Head = arrowHead(d.X1, y, out > 0)
		d.MidX = d.X1 + out/2
		d.TextY = y - 18
		return d
	}
	d.Head = arrowHead(d.X2, y, d.X2 < d.X1)
	d.MidX = (d.X1 + d.X2) / 2
	return d
}

// arrowHead returns the triangle whose tip is at x, y; left says it points left.
func arrowHead(x, y int, left bool) string {
	back := x - 9
	if left {
		back = x + 9
	}
	return strings.Join([]string{itoa(x) + "," + itoa(y), itoa(back) + "," + itoa(y-5), itoa(back) + "," + itoa(y+5)}, " ")
}
