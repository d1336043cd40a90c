package vault

import (
	"io/fs"
	"os"
)

// othersBits: Windows has access lists instead, which the file inherits from its
// directory.
func othersBits(fs.FileInfo) fs.FileMode { return 0 }

// OwnAs does nothing here.
func OwnAs(*os.File, fs.FileInfo) error { return nil }
