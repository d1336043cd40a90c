package lab

func endpointAttacks() []attack { return nil }
