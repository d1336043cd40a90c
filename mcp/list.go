package mcp

import (
	"context"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// List is the result of a list method with all its pages.
type List struct {
	Items      []wire.Raw // each item as it came
	Pages      int
	Cut        string // why the list is not whole: "", CutLoop, CutPages, CutItems, CutBytes, CutFailed
	CacheScope string // of the first page
	TTL        int64  // ttlMs of the first page; -1 when absent
	Replies    []*Reply
}

// Why a list was cut.
const (
	CutLoop   = "cursor_loop" // a cursor came twice
	CutPages  = "pages"
	CutItems  = "items"
	CutBytes  = "bytes"
	CutFailed = "failed" // a later page was refused; the last reply says how
)

// member names where the items of each list method stand.
var listMember = map[string]string{
	wire.MethodToolsList:     "tools",
	wire.MethodResourcesList: "resources",
	wire.MethodTemplatesList: "resourceTemplates",
	wire.MethodPromptsList:   "prompts",
}

// List asks for all pages of tools/list, resources/list,
// resources/templates/list or prompts/list. A refusal of the first page is in
// the last of Replies, not in the error: see Reply.Outcome. The error is not
// nil when no response came or method is no list method.
func (c *Client) List(ctx context.Context, method string) (*List, error) {
	member, ok := listMember[method]
	if !ok {
		return nil, kidoban.Errorf(kidoban.KindUsage, "%q is not a list method.", method)
	}
	l := &List{TTL: -1}
	seen := map[string]bool{}
	params, size := wire.Raw("{}"), 0
	for {
		r, err := c.Call(ctx, Call{Method: method, Params: params})
		if err != nil {
			return l, err
		}
		l.Replies = append(l.Replies, r)
		if r.Outcome != Answered {
			if l.Pages > 0 {
				l.Cut = CutFailed
			}
			return l, nil
		}
		if l.Pages++; l.Pages == 1 {
			l.CacheScope = wire.LookupString(r.Result, "cacheScope")
			if v, ok := wire.Lookup(r.Result, "ttlMs"); ok {
				l.TTL, _ = wire.Int(v)
			}
		}
		items, _ := wire.Lookup(r.Result, member)
		wire.Elements(items, func(item wire.Raw) bool {
			size += len(item)
			switch {
			case len(l.Items) >= c.o.MaxItems:
				l.Cut = CutItems
			case size > c.o.MaxListSize:
				l.Cut = CutBytes
			default:
				l.Items = append(l.Items, item)
			}
			return l.Cut == ""
		})
		cursor := wire.LookupString(r.Result, "nextCursor")
		switch {
		case l.Cut != "" || cursor == "":
			return l, nil
		case seen[cursor]:
			l.Cut = CutLoop
		case l.Pages >= c.o.MaxPages:
			l.Cut = CutPages
		}
		if l.Cut != "" {
			return l, nil
		}
		seen[cursor] = true
		params = wire.SetMember(wire.Raw("{}"), "cursor", wire.Quote(cursor))
	}
}
