package vault

import "io/fs"

// othersBits: Windows has access lists instead, which the file inherits from its
// directory.
func othersBits(fs.FileInfo) fs.FileMode { return 0 }
