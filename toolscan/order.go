package toolscan

// startsAsOrder says whether a sentence opens as an order or a question to the
// reader: an imperative verb, possibly after a polite or adverbial opening, or
// a question word.
func startsAsOrder(l []byte) bool {
	for i := 0; i < 4; i++ {
		word, rest := firstWord(l)
		if word == "" {
			return false
		}
		if orderVerbs[word] {
			return true
		}
		if !orderOpenings[word] {
			return false
		}
		l = rest
	}
	return false
}

// firstWord cuts the first word of letters and apostrophes off l.
func firstWord(l []byte) (string, []byte) {
	i := 0
	for i < len(l) && !isLetter(l[i]) {
		if l[i] >= '0' && l[i] <= '9' {
			return "", nil
		}
		i++
	}
	j := i
	for j < len(l) && (isLetter(l[j]) || l[j] == '\'') {
		j++
	}
	return string(l[i:j]), l[j:]
}

var orderOpenings = set(`please kindly now then also just simply always never first next don't do not can could would will you
 to in your response reply answer of be sure make seamlessly carefully immediately quickly silently instead and so
 let ensure remember consider proceed try feel free hesitate i want need must should it's important may`)

var orderVerbs = set(`absorb act add adapt adjust adopt advise advocate alter alternate amplify anagram analyze anonymize answer append apply arrange
 articulate ask assess assign assimilate attach augment avoid base blend break brainstorm build bypass calculate call capitalize categorize change
 check choose classify clarify collect combine comment compare compile complete compose compress compute concatenate conclude condense conduct confirm
 construct contact convert copy craft create cut debug decode decipher define delete deliver demonstrate deploy derive describe design detail determine develop
 discuss disguise display disregard distort divide download draft draw drop duplicate edit elaborate embed embellish emphasize employ enable encode
 encourage encrypt end endorse engage enhance enrich ensure enter enumerate establish estimate evaluate examine exchange execute expand explain
 explore express extend extract fabricate factor favor fetch fill find finish flip follow forge forget format formulate forward fuse
 garble generate give go group guide harmonize hide highlight hint identify ignore illustrate imagine imitate implement improve incorporate
 include inform infuse inject insert install integrate interchange interleave interpret interweave introduce invent invert investigate invite invoke
 join jumble jumbles kill lead leak leave leverage link list locate log make manipulate map mask meld mention merge minimize mirror misspell misspelling mix mock
 modify mention name navigate negate note obfuscate obscure offer omit open order organize outline output overlay override paint paraphrase pass
 perform permute persuade pick place plan plant post predict prefix prepare present pretend print prioritize produce program promote
 promise prompt propagate propose provide publish push put query quote randomize read rearrange recall recite recommend record redirect
 reduce refer reflect reformat register relay remind remove render reorder repeat rephrase replace reply report represent request research
 resolve respond restate restructure retrieve return reveal reverse review revise reword rewrite rotate run save say scan scatter schedule scramble search
 select send separate set share shift show shuffle sign simulate sketch solve sort spam speak specify spell split spread sprinkle state stop
 store strip structure submit substitute subtly suggest summarize supply support swap switch take tease tell test tokenize track train transcribe transfer
 transform translate transliterate transpose turn twist type undertake unscramble update upload urge use utilize utter vary verify visit
 warn weave what when where which who whom whose why how wrap write zip
 what's how's who's`)

func set(words string) map[string]bool {
	m := map[string]bool{}
	start := -1
	for i := 0; i <= len(words); i++ {
		letter := i < len(words) && words[i] != ' ' && words[i] != '\n'
		switch {
		case letter && start < 0:
			start = i
		case !letter && start >= 0:
			m[words[start:i]] = true
			start = -1
		}
	}
	return m
}
