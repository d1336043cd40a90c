package corpus

import "github.com/kidoban/kidoban/toolscan"

func (rep *Report) drift(sc *toolscan.Scanner, dir string) error {
	return nil
}
