package toolscan

// automaton finds all of a set of words in one pass (Aho and Corasick 1975). Its
// table is dense over the classes of bytes that the words tell apart, two bytes a
// cell: about a megabyte for all anchors, where a table of pointers per byte took
// thirty-six. It is read-only after newAutomaton.
type automaton struct {
	class   [256]uint8 // 0 stands for every byte that no word has
	classes int
	next    []uint16 // state × class → state; state 0 is the beginning
	out     []int32  // state → index into sets, -1 for none
	sets    [][]int  // numbers of the words that end in a state
}

// newAutomaton builds the table. The words are few enough for 65,536 states: more
// is a defect of the lexicon.
func newAutomaton(words []string) *automaton {
	a := &automaton{classes: 1}
	states := 1
	for _, w := range words {
		states += len(w)
		for i := range len(w) {
			if a.class[w[i]] == 0 {
				a.class[w[i]] = uint8(a.classes)
				a.classes++
			}
		}
	}
	a.next = make([]uint16, a.classes, states*a.classes)
	ends := [][]int{nil}
	for n, w := range words {
		s := 0
		for i := range len(w) {
			cell := s*a.classes + int(a.class[w[i]])
			if a.next[cell] == 0 {
				if len(ends) > 1<<16-1 {
					panic("toolscan: more anchors than the automaton holds")
				}
				a.next[cell] = uint16(len(ends))
				a.next = append(a.next, make([]uint16, a.classes)...)
				ends = append(ends, nil)
			}
			s = int(a.next[cell])
		}
		ends[s] = append(ends[s], n)
	}
	a.link(ends)
	return a
}

// link turns the tree into the automaton, states nearest the beginning first: a
// missing step goes where the longest suffix that is in the tree would go.
func (a *automaton) link(ends [][]int) {
	fail := make([]uint16, len(ends))
	queue := make([]uint16, 0, len(ends))
	for c := range a.classes {
		if s := a.next[c]; s != 0 {
			queue = append(queue, s)
		}
	}
	for i := 0; i < len(queue); i++ {
		s := int(queue[i])
		f := int(fail[s])
		ends[s] = append(ends[s], ends[f]...)
		for c := range a.classes {
			cell := s*a.classes + c
			if to := a.next[cell]; to != 0 {
				fail[to] = a.next[f*a.classes+c]
				queue = append(queue, to)
			} else {
				a.next[cell] = a.next[f*a.classes+c]
			}
		}
	}
	a.next = append([]uint16(nil), a.next...)
	a.out = make([]int32, len(ends))
	for s, e := range ends {
		a.out[s] = -1
		if len(e) > 0 {
			a.out[s] = int32(len(a.sets))
			a.sets = append(a.sets, e)
		}
	}
}

// each calls found with the words that end at each place of b where one does.
func (a *automaton) each(b []byte, found func(set int32)) {
	s := 0
	for _, c := range b {
		s = int(a.next[s*a.classes+int(a.class[c])])
		if o := a.out[s]; o >= 0 {
			found(o)
		}
	}
}

// contains tells whether any word is in s.
func (a *automaton) contains(text string) bool {
	s := 0
	for i := range len(text) {
		s = int(a.next[s*a.classes+int(a.class[text[i]])])
		if a.out[s] >= 0 {
			return true
		}
	}
	return false
}
