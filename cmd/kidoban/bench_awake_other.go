//go:build !linux

package main

import (
	"context"

	"github.com/kidoban/kidoban"
)

// keepAwake is for Linux, which lets a thread give way to every other.
func keepAwake(context.Context) error {
	return kidoban.Errorf(kidoban.KindUsage, "the processors can be kept awake on Linux only")
}
