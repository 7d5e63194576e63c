// Helm 4 as a process that stays: it reads commands of Helm as lines of JSON and answers each with a line of its exit
// code and of what it printed, on both channels. A start of Helm costs more than what it renders for most tests.
package main

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	helmcmd "helm.sh/helm/v4/pkg/cmd"
	"helm.sh/helm/v4/pkg/kube"
	// As in Helm's own main.
	_ "k8s.io/client-go/plugin/pkg/client/auth"
)

type request struct {
	Args   []string
	Stdin  string
	Folder string
}

type answer struct {
	Code int    `json:"code"`
	Text string `json:"text"`
}

func main() {
	kube.ManagedFieldsManager = "helm"
	requests, answers := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var asked request
		if err := requests.Decode(&asked); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			panic(err)
		}
		must(os.Chdir(asked.Folder))
		must(answers.Encode(run(asked)))
	}
}

// run gives Helm its own standard streams: it reads and writes those of the process.
func run(asked request) answer {
	input, stdin, err := os.Pipe()
	must(err)
	output, stdout, err := os.Pipe()
	must(err)
	go func() {
		// An error: Helm did not read all of it.
		_, _ = io.WriteString(stdin, asked.Stdin)
		_ = stdin.Close()
	}()
	printed := make(chan []byte)
	go func() {
		all, err := io.ReadAll(output)
		must(err)
		printed <- all
	}()

	theirs := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	os.Stdin, os.Stdout, os.Stderr = input, stdout, stdout
	code := helm(asked.Args)
	os.Stdin, os.Stdout, os.Stderr = theirs[0], theirs[1], theirs[2]

	must(stdout.Close())
	text := <-printed
	must(output.Close())
	must(input.Close())
	return answer{code, string(text)}
}

// helm is the main of cmd/helm, but it returns the exit code.
func helm(args []string) int {
	command, err := helmcmd.NewRootCmd(os.Stdout, args, helmcmd.SetupLogging)
	if err != nil {
		slog.Warn("command failed", slog.Any("error", err))
		return 1
	}
	defer forget(command)
	command.SetArgs(args)
	err = command.Execute()
	if failed, ok := errors.AsType[helmcmd.CommandError](err); ok {
		return failed.ExitCode
	}
	if err != nil {
		return 1
	}
	return 0
}

// forget puts the global flags back, which Helm keeps in a variable of the process.
func forget(command *cobra.Command) {
	command.PersistentFlags().VisitAll(func(flag *pflag.Flag) {
		if flag.Changed {
			must(flag.Value.Set(flag.DefValue))
		}
	})
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
