// Go's own use of signals, and its deaths, with C in the same process: crash WAY.
package main

/*
#include <stdint.h>
#include <stdlib.h>

static volatile uintptr_t zero;

__attribute__((noinline)) static void c_null_write(void)
{
	*(volatile int *)zero = 1;
}

__attribute__((noinline)) static void c_abort(void)
{
	abort();
}
*/
import "C"

import (
	"os"
	"os/exec"
	"runtime/debug"
	"sync"
	"unsafe"
)

const times = 1000

// What a child blocks and ignores.
const signals = "sed -n /Sig[BI]/p /proc/self/status >&2; exit 4"

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

// storm: each nil dereference is a SIGSEGV that the runtime turns into a panic.
func storm() {
	counts := make([]int, 4)
	var group sync.WaitGroup
	for i := range counts {
		group.Add(1)
		go func(count *int) {
			defer group.Done()
			for n := 0; n < times; n++ {
				*count += recovered()
			}
		}(&counts[i])
	}
	group.Wait()
	println("panics caught:", counts[0]+counts[1]+counts[2]+counts[3])
}

// fault: an address that is no nil pointer is fatal, or a panic where asked for.
func fault() {
	debug.SetPanicOnFault(true)
	defer func() { println("caught:", recover() != nil) }()
	sink = read((*int)(unsafe.Pointer(uintptr(0x123456000))))
}

func children() {
	for _, end := range []string{"exit 0", "exit 3", "kill -TERM $$", signals} {
		child := exec.Command("sh", "-c", end)
		child.Stderr = os.Stderr
		println(end, child.Run() == nil)
	}
}

func main() {
	switch os.Args[1] {
	case "storm":
		storm()
	case "fault":
		fault()
	case "children":
		children()
	case "nil":
		sink = read(nil)
	case "panic":
		panic("no signal")
	case "c_null_write":
		C.c_null_write()
	case "c_abort":
		C.c_abort()
	}
}
