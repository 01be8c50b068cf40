/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest of the tests: one boot sector that for ever writes an increasing 64-bit counter to the
 * disk it was booted from, so that an image of the disk can be proven to show one instant.
 *
 * Write number n, from 1, goes to slot n mod 256. Slot s is the sector at LBA 128 + s * 128: each
 * slot in a 64 KiB cluster of its own, the last one just below 16 MiB + 64 KiB. The sector holds
 *
 *      0   16 bytes    "refpointfs-count"
 *     16    8 bytes    n, little endian
 *     24    8 bytes    all bits of n inverted
 *     32  480 bytes    the low 32 bits of n, 120 times
 *
 * One write is finished before the next begins. So at any instant, with K the last write finished,
 * slot s holds the greatest n <= K with n mod 256 = s, or zeros if there is none: counter-check
 * proves it. When it starts, the guest finds K in the slots and goes on with K + 1.
 *
 * SeaBIOS does not negotiate the flush command of virtio-blk, and QEMU then writes through: what
 * the guest has been told is written survives a kill of QEMU.
 *
 *     as --32 -o counter.o counter.S
 *     ld -m elf_i386 --oformat binary -Ttext 0x7c00 -e start -o guest.bin counter.o
 *
 * Prints "counting" on the first serial port when it begins to write.
 */
        .intel_syntax noprefix
        .code16
        .text
        .globl  start

        .set    SECTOR, 0x8000          /* the sector in hand, above the code */
        .set    SERIAL, 0x3f8

start:
        cli
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7c00
        sti
        cld
        mov     drive, dl

        /* The greatest number in any slot. CL counts the slots: 256 steps until it is 0 again. */
        xor     cx, cx
look:
        mov     ah, 0x42
        call    disk
        jc      look
        push    cx
        mov     si, offset magic
        mov     di, SECTOR
        mov     cx, 8
        repe    cmpsw
        pop     cx
        jne     looked
        mov     eax, dword ptr [SECTOR + 16]
        mov     edx, dword ptr [SECTOR + 20]
        cmp     edx, dword ptr number + 4
        jb      looked
        ja      greater
        cmp     eax, dword ptr number
        jbe     looked
greater:
        mov     dword ptr number, eax
        mov     dword ptr number + 4, edx
looked:
        inc     cl
        jnz     look

        /* BIOS would need a video card to print; the port needs none. */
        mov     si, offset hello
        mov     dx, SERIAL
print:
        lodsb
        test    al, al
        jz      count
        out     dx, al
        jmp     print

count:
        add     dword ptr number, 1
        adc     dword ptr number + 4, 0

        mov     eax, dword ptr number
        mov     di, SECTOR
        mov     cx, 128
        rep     stosd
        mov     si, offset magic
        mov     di, SECTOR
        mov     cx, 8
        rep     movsw
        mov     edx, dword ptr number + 4
        stosd
        xchg    eax, edx
        stosd
        xchg    eax, edx
        not     eax
        not     edx
        stosd
        xchg    eax, edx
        stosd

        mov     cl, byte ptr number
write:
        mov     ax, 0x4300
        call    disk
        jc      write                   /* the same number again: never leave one out */
        jmp     count

/* BIOS disk call AX on the sector of slot CL. Carry: it failed. Keeps CX. */
disk:
        mov     si, offset packet
        mov     word ptr packet + 2, 1  /* BIOS leaves the number of sectors done here */
        movzx   ebx, cl
        inc     bx
        shl     ebx, 7
        mov     dword ptr packet + 8, ebx
        mov     dl, drive
        push    cx
        int     0x13
        pop     cx
        ret

magic:  .ascii  "refpointfs-count"
hello:  .asciz  "counting\r\n"
drive:  .byte   0
        .balign 4
packet: .byte   16, 0                   /* disk address packet: size, 0, */
        .word   1                       /* sectors, */
        .word   SECTOR, 0               /* offset and segment of the buffer, */
        .quad   0                       /* first sector */
number: .quad   0

        .org    510
        .word   0xaa55
