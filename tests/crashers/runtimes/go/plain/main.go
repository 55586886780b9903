// Go without C: the runtime makes its system calls itself.
package main

import "os"

var sink int

//go:noinline
func read(it *int) int {
	return *it
}

func recovered() (caught int) {
	defer func() {
		if recover() != nil {
			caught = 1
		}
	}()
	sink = read(nil)
	return 0
}

func main() {
	switch os.Args[1] {
	case "storm":
		caught := 0
		for n := 0; n < 1000; n++ {
			caught += recovered()
		}
		println("panics caught:", caught)
	case "nil":
		sink = read(nil)
	}
}
