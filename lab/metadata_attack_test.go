package lab

func metadataAttacks() []attack { return nil }
