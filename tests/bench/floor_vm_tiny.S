/*
 * The smallest guest that brume-vmm boots: an ELF with a PVH entry.  It goes to ring 3 and switches
 * the machine off.  For tests/bench/bench_vmm.py: what is measured is the monitor.
 */
	.section .note.pvh, "a", @note
	.long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long _start

	.text
	.code32
	.globl _start
_start:
	mov $stack, %esp
	lgdt table
	push $0x3002 /* port I/O for ring 3 */
	popf
	/* The only way to ring 3 that KVM's emulator knows. */
	mov $0x174, %ecx /* IA32_SYSENTER_CS: the segments follow 16 and 24 bytes behind */
	mov $0x8, %eax
	xor %edx, %edx
	wrmsr
	mov $1f, %edx
	mov $stack, %ecx
	sysexit
1:	mov $100, %ecx
2:	dec %ecx
	jnz 2b
	mov $0x600, %dx /* LAYOUT_PORT_SLEEP: sleep type 5, enable */
	mov $0x34, %al
	out %al, %dx
3:	pause
	jmp 3b

	.data
	.balign 8
segments:
	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff
table:
	.word table - segments - 1
	.long segments
	.balign 16
	.skip 256
stack:

	.section .note.GNU-stack, "", @progbits
