package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCmd prints what a shell needs to complete kidoban's words: made from
// the commands themselves, so that it cannot be out of date, and whole, so that no
// key press starts the program.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help says where the script goes.
func (completionCmd) Help() string {
	return `Once:

    echo 'source <(kidoban completion bash)' >>~/.bashrc
    echo 'source <(kidoban completion zsh)' >>~/.zshrc
    kidoban completion fish >~/.config/fish/completions/kidoban.fish`
}

// Run prints the script.
func (c completionCmd) Run(e *env) error {
	var all cli
	parser, err := newParser(e, &all)
	if err != nil {
		return err
	}
	words := wordsOf(parser.Model.Node, "")
	switch c.Shell {
	case "bash":
		writeBash(e.stdout, words)
	case "zsh": // which runs bash's functions
		fmt.Fprint(e.stdout, "autoload -U +X compinit bashcompinit && compinit -u && bashcompinit\n")
		writeBash(e.stdout, words)
	case "fish":
		writeFish(e.stdout, words)
	}
	return nil
}

// completion is what may follow the words of a command.
type completion struct {
	path     string // "gateway user", "" for kidoban itself
	commands []completed
	flags    []completed
}

type completed struct{ word, help string }

// wordsOf lists every command that is shown, the outermost first. A command that
// runs another by default takes that one's flags.
func wordsOf(n *kong.Node, path string) []completion {
	here := completion{path: path}
	for _, f := range n.Flags {
		if !f.Hidden {
			here.flags = append(here.flags, completed{"--" + f.Name, firstSentence(f.Help)})
		}
	}
	if n.DefaultCmd != nil {
		for _, f := range n.DefaultCmd.Flags {
			here.flags = append(here.flags, completed{"--" + f.Name, firstSentence(f.Help)})
		}
	}
	var below []completion
	for _, c := range n.Children {
		if c.Hidden {
			continue
		}
		here.commands = append(here.commands, completed{c.Name, firstSentence(c.Help)})
		below = append(below, wordsOf(c, strings.TrimSpace(path+" "+c.Name))...)
	}
	return append([]completion{here}, below...)
}

// firstSentence is help that fits beside a word.
func firstSentence(s string) string {
	s, _, _ = strings.Cut(s, ". ")
	return strings.TrimSuffix(strings.ReplaceAll(s, "'", "’"), ".")
}

// writeBash knows at each command its commands, then its flags; else files.
func writeBash(w io.Writer, all []completion) {
	fmt.Fprint(w, `_kidoban() {
  local cur=${COMP_WORDS[COMP_CWORD]} path="" words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "${COMP_WORDS[i]}" in -*) continue ;; esac
    case "$path ${COMP_WORDS[i]}" in
`)
	for _, c := range all {
		if c.path != "" {
			fmt.Fprintf(w, "      ' %s') path=' %s' ;;\n", c.path, c.path)
		}
	}
	fmt.Fprint(w, "    esac\n  done\n  case \"$path\" in\n")
	for _, c := range all {
		path := c.path
		if path != "" {
			path = " " + path
		}
		fmt.Fprintf(w, "    '%s') case $cur in -*) words='%s' ;; *) words='%s' ;; esac ;;\n", path, join(c.flags), join(c.commands))
	}
	fmt.Fprint(w, `  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [ -n "$words" ] || COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _kidoban kidoban
`)
}

func join(words []completed) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = w.word
	}
	return strings.Join(out, " ")
}

// writeFish has a line for each word, with its help.
func writeFish(w io.Writer, all []completion) {
	fmt.Fprint(w, `function __kidoban_words
  for word in (commandline -opc)[2..]
    string match -q -- '-*' $word; or echo $word
  end
end
function __kidoban_at
  set -l before (string join ' ' -- (__kidoban_words))
  test "$before" = "$argv"
end
function __kidoban_in
  set -l before (string join ' ' -- (__kidoban_words))
  test -z "$argv"; or string match -q -- "$argv *" "$before "
end
`)
	for _, c := range all {
		for _, x := range c.commands {
			fmt.Fprintf(w, "complete -c kidoban -f -n '__kidoban_at %s' -a '%s' -d '%s'\n", c.path, x.word, x.help)
		}
		for _, x := range c.flags {
			fmt.Fprintf(w, "complete -c kidoban -n '__kidoban_in %s' -l '%s' -d '%s'\n", c.path, strings.TrimPrefix(x.word, "--"), x.help)
		}
	}
}
