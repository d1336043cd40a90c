package main

import "github.com/kidoban/kidoban/sandbox"

// sandboxCmd is the helper stage of the box around stdio servers. The gateway
// starts it; it is not for people and not in the help.
type sandboxCmd struct {
	Args []string `arg:"" optional:"" passthrough:""`
}

// Run becomes the server, or waits for the gateway's end.
func (c sandboxCmd) Run(*env) error {
	return exitError(sandbox.Stage(c.Args))
}
