// Pause holds a pod's namespaces: it waits for the end and collects orphans where the pod shares its process namespace.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for got := range signals {
		if got != syscall.SIGCHLD {
			return
		}
		for {
			collected, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if err != nil || collected <= 0 {
				break
			}
		}
	}
}
