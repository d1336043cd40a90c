package toolscan

import "github.com/kidoban/kidoban"

// structuralRules describe what is found without a sentence: characters, names,
// schemas, servers, versions, configurations.
var structuralRules = []RuleInfo{
	{"hidden-tags", FamilyHidden, Hard, kidoban.High, "Unicode tag characters are invisible to people and read by models.", "Remove the hidden characters."},
	{"hidden-variation", FamilyHidden, Soft, kidoban.High, "Variation selectors that select nothing can carry hidden bytes.", "Remove the hidden characters."},
	{"hidden-zero-width", FamilyHidden, Hard, kidoban.High, "Zero-width characters hide text or split words that filters look for.", "Remove the hidden characters."},
	{"hidden-bidi", FamilyHidden, Hard, kidoban.High, "Bidirectional controls show people another order of letters than models read.", "Remove the hidden characters."},
	{"hidden-ansi", FamilyHidden, Hard, kidoban.High, "Terminal escape sequences can erase or recolour what a person reads.", "Remove the hidden characters."},
	{"hidden-control", FamilyHidden, Soft, kidoban.High, "Control characters have no place in a description.", "Remove the hidden characters."},
	{"blank-wall", FamilyHidden, Soft, kidoban.High, "Text follows a wall of white space, out of a person's sight.", "Remove the white space."},
	{"name-homoglyph", FamilyHidden, Hard, kidoban.High, "The name is written with look-alike letters of another script.", "Use the letters of one script."},
	{"param-prompt", FamilyParameter, Hard, kidoban.Medium, "It asks for the system prompt.", fixParameter},
	{"param-conversation", FamilyParameter, Hard, kidoban.Medium, "It asks for the conversation.", fixParameter},
	{"param-user-words", FamilyParameter, Soft, kidoban.Medium, "It asks for what the user wrote.", fixParameter},
	{"param-model", FamilyParameter, Hard, kidoban.Medium, "It asks which model is calling.", fixParameter},
	{"param-tools", FamilyParameter, Hard, kidoban.Medium, "It asks which tools the model has, or what they returned.", fixParameter},
	{"param-thoughts", FamilyParameter, Hard, kidoban.Medium, "It asks for the model's private reasoning.", fixParameter},
	{"param-secret", FamilyParameter, Soft, kidoban.Medium, "It asks for secrets the tool does not name a use for.", fixParameter},
	{"param-sidenote", FamilyParameter, Soft, kidoban.Medium, "It is a place to put what the tool does not need.", fixParameter},
	{"param-secret-file", FamilyParameter, Hard, kidoban.High, "Its name asks for the contents of a credential file.", fixParameter},
	{"param-order", FamilyParameter, Hard, kidoban.High, "Its name is an order to put a secret there.", fixParameter},
	{"param-exfil", FamilyParameter, Hard, kidoban.High, "Its name says that data leaves by it.", fixParameter},
	{"param-disguised", FamilyParameter, Soft, kidoban.Medium, "Its name is dressed up as internal.", fixParameter},
	{"param-vague", FamilyParameter, Soft, kidoban.Medium, "Several free-text parameters have no description and no part in what the tool does.", fixParameter},
	{"model", FamilyModel, Soft, kidoban.Medium, "Its wording resembles known attacks (statistical signal).", fixHold},
	{"secret-in-result", FamilySecrets, Hard, kidoban.High, "The text holds a credential, recognisable by its form.", "Redact it before the model sees it, and rotate it."},
	{"odd-sentence", FamilyModel, Soft, kidoban.Medium, "One sentence does not belong to the text around it: it orders or asks the reader for something (statistical signal).", fixHold},
	{"annotation-lie", FamilyCapability, Label, kidoban.Medium, "An annotation contradicts the tool's name.", "Correct the annotation."},
	{"schema-network-ref", FamilySchema, Label, kidoban.High, "The schema refers to a document on the network.", "Inline the definition."},
	{"schema-recursion", FamilySchema, Label, kidoban.Low, "The schema refers to itself.", "Bound the recursion."},
	{"schema-deep", FamilySchema, Label, kidoban.Low, "The definition nests deeper than clients handle.", "Flatten the schema."},
	{"schema-huge", FamilySchema, Label, kidoban.Low, "The definition crowds out the model's context.", "Split the tool."},
	{"schema-header-name", FamilySchema, Label, kidoban.Medium, "x-mcp-header is not a header name.", "Use letters, digits and hyphens."},
	{"schema-secret-header", FamilySchema, Label, kidoban.High, "A secret is mirrored into an HTTP header.", "Do not mirror the parameter."},
	{"beyond-bounds", FamilySchema, Label, kidoban.Medium, "The definition is larger or deeper than the scan reads.", "Refuse the item."},
	{"name-collision", FamilyCollision, Soft, kidoban.Medium, "Two servers offer a tool of the same name.", "Prefix the names with their server, or drop one."},
	{"name-confusable", FamilyCollision, Soft, kidoban.High, "The name is confusable with another tool's.", "Prefix the names with their server, or drop one."},
	{"well-known-name", FamilyCollision, Label, kidoban.Low, "The name is known from a widely used server.", "Check that the server is meant to offer this."},
	{"static-secret", FamilyStatic, Label, kidoban.High, "A secret stands in the configuration in clear.", "Move it to the vault and rotate it."},
	{"static-http", FamilyStatic, Label, kidoban.High, "A remote is reached without TLS.", "Use https."},
	{"static-url", FamilyStatic, Label, kidoban.Low, "A URL cannot be read.", "Correct it."},
	{"static-homoglyph", FamilyStatic, Label, kidoban.Medium, "A host name is written with letters outside ASCII.", "Check the name letter by letter."},
	{"static-shell", FamilyStatic, Label, kidoban.Medium, "A server is started through a shell line.", "Start the program directly."},
	{"static-unpinned", FamilyStatic, Label, kidoban.Medium, "A package is run without an exact version.", "Name an exact version."},
	{"static-vulnerable", FamilyStatic, Label, kidoban.High, "A version with a known flaw.", "Use a fixed version."},
	{"static-typosquat", FamilyStatic, Label, kidoban.High, "A package's name resembles a well-known one.", "Check that this is the package you meant."},
	{"not-json", FamilySchema, Label, kidoban.Low, "The definition is not well-formed JSON to its end.", "Refuse the item."},
}

var ruleWhy = func() map[string]string {
	m := map[string]string{}
	for _, r := range structuralRules {
		m[r.ID] = r.Reason
	}
	return m
}()
