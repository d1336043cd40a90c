package toolscan

import "testing"

// TestSnapshotOfAServerWithoutTools: a list that is there and empty is what such a
// server answers, and what diff compares the next answer with; a file without any
// list is none.
func TestSnapshotOfAServerWithoutTools(t *testing.T) {
	for text, fine := range map[string]bool{
		`{"tools":[]}`: true, `{"jsonrpc":"2.0","id":1,"result":{"prompts":[]}}`: true, `[]`: true,
		`{}`: false, `{"tools":null}`: false, `{"result":{}}`: false, `{"servers":[]}`: false,
	} {
		servers, err := ParseSnapshot("x.json", []byte(text))
		if (err == nil) != fine || fine && (len(servers) != 1 || len(servers[0].Items) != 0) {
			t.Errorf("%s: %+v, %v", text, servers, err)
		}
	}
}
