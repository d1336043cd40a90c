package browser

// Script is a recorded login: steps on the pages before the decision.
type Script struct{}
