// SPDX-License-Identifier: MIT

// A Go program, without cgo: goroutines on small stacks, several threads, its own signal handling.
package main

import (
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

type progress struct {
	ready, errors, where uint64
	loops                [10]uint64
	probe, value, stop   uint64
}

var shared *progress

func sum(depth int) uint64 {
	if depth == 0 {
		return 1
	}
	return sum(depth-1) + uint64(depth)
}

func compute(slot int) {
	for atomic.LoadUint64(&shared.stop) == 0 {
		if sum(200) != 20101 {
			atomic.AddUint64(&shared.errors, 1)
		}
		atomic.AddUint64(&shared.loops[slot], 1)
		if slot > 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

func main() {
	memory, err := syscall.Mmap(3, 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	shared = (*progress)(unsafe.Pointer(&memory[0]))
	for i := 1; i < 4; i++ {
		go compute(i)
	}
	for atomic.LoadUint64(&shared.loops[3]) == 0 {
		time.Sleep(time.Millisecond)
	}
	atomic.StoreUint64(&shared.ready, 1)
	compute(0)
}
