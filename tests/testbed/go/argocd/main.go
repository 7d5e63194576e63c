// Argo CD's application controller, ApplicationSet controller and repo server: what turns an Application into objects.
//
// Usage: argocd <program> <its arguments>
//
// One binary, for the three share most of what they are compiled from. Without the API server, web page and dex: the
// tests write Applications and read their status with the Kubernetes API, where the controllers look for them too.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	controller "github.com/argoproj/argo-cd/v3/cmd/argocd-application-controller/commands"
	applicationset "github.com/argoproj/argo-cd/v3/cmd/argocd-applicationset-controller/commands"
	reposerver "github.com/argoproj/argo-cd/v3/cmd/argocd-repo-server/commands"
)

var programs = map[string]func() *cobra.Command{
	"application-controller": controller.NewCommand,
	"applicationset":         applicationset.NewCommand,
	"repo-server":            reposerver.NewCommand,
}

func main() {
	if len(os.Args) < 2 || programs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: argocd application-controller|applicationset|repo-server <its arguments>")
		os.Exit(2)
	}
	command := programs[os.Args[1]]()
	command.SetArgs(os.Args[2:])
	if err := command.Execute(); err != nil {
		os.Exit(1)
	}
}
