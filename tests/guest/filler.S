/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest that writes as fast as it can: one boot sector that overwrites 256 MiB of the disk it was
 * booted from, from 64 KiB on, in pieces of 63.5 KiB, again and again.
 *
 *     as --32 -o filler.o filler.S
 *     ld -m elf_i386 --oformat binary -Ttext 0x7c00 -e start -o filler.bin filler.o
 *
 * Prints "counting" on the first serial port when it begins, which is what tests wait for.
 */
        .intel_syntax noprefix
        .code16
        .text
        .globl  start

        .set    SERIAL, 0x3f8
        .set    SECTORS, 127
        .set    FIRST, 128
        .set    END, 128 + 256 * 2048

start:
        cli
        xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     sp, 0x7c00
        sti
        cld
        mov     drive, dl
        mov     si, offset hello
        mov     dx, SERIAL
print:
        lodsb
        test    al, al
        jz      write
        out     dx, al
        jmp     print

write:
        mov     si, offset packet
        mov     word ptr packet + 2, SECTORS /* BIOS leaves the number of sectors done here */
        mov     ax, 0x4300
        mov     dl, drive
        int     0x13
        jc      write
        add     dword ptr packet + 8, SECTORS
        cmp     dword ptr packet + 8, END
        jb      write
        mov     dword ptr packet + 8, FIRST
        jmp     write

hello:  .asciz  "counting\r\n"
drive:  .byte   0
        .balign 4
packet: .byte   16, 0                   /* disk address packet: size, 0, */
        .word   SECTORS                 /* sectors, */
        .word   0, 0x1000               /* offset and segment of the buffer: whatever is there, */
        .quad   FIRST                   /* first sector */

        .org    510
        .word   0xaa55
