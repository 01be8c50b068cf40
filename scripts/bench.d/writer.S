/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest that writes all the time: 64 KiB after 64 KiB, over and over through the 256 MiB from
 * 2.5 GiB on, where the benchmark's disk has data. One write is finished before the next begins,
 * and as SeaBIOS knows of no flush, QEMU syncs each.
 */
        .intel_syntax noprefix
        .code16
        .text
        .globl  start

        .set    FROM, 5 << 20           /* in sectors */
        .set    SECTORS, 128
        .set    MASK, (256 << 11) - 1

start:
        cli
        xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     sp, 0x7c00
        sti
        mov     drive, dl
next:
        add     dword ptr done, SECTORS
        mov     eax, dword ptr done
        and     eax, MASK
        add     eax, FROM
        mov     dword ptr packet + 8, eax
        mov     word ptr packet + 2, SECTORS
        mov     ax, 0x4300
        mov     si, offset packet
        mov     dl, drive
        int     0x13
        jmp     next

        .balign 4
packet: .byte   16, 0
        .word   SECTORS
        .word   0, 0x1000               /* what it writes is whatever stands there */
        .quad   0
done:   .long   0
drive:  .byte   0

        .org    510
        .word   0xaa55
