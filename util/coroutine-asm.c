/* SPDX-License-Identifier: MIT */
/*
 * The hand-written switch: pushes what the ABI says a callee keeps, swaps the stack pointer, pops.
 * x86-64: rbx rbp r12-r15, mxcsr, x87 control word (loaded only where they differ, which is slow).
 * aarch64: x19-x30, d8-d15, fpcr.
 * The way out on x86-64 is a jump: a return would go elsewhere than the processor's stack of return
 * addresses says.
 */
#include "util/coroutine-int.h"

#include <string.h>

void co_switch_stack(void **save_sp, void *to_sp);

#if defined(__x86_64__)
__asm__(".text\n"
        ".globl co_switch_stack\n"
        ".hidden co_switch_stack\n"
        ".type co_switch_stack,@function\n"
        ".p2align 4\n"
        "co_switch_stack:\n"
        "    .cfi_startproc\n"
        "    endbr64\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    subq $8, %rsp\n"
        "    stmxcsr (%rsp)\n"
        "    fnstcw 4(%rsp)\n"
        "    movl (%rsp), %eax\n"
        "    movzwl 4(%rsp), %ecx\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    xorl (%rsp), %eax\n"
        "    testl $0xffc0, %eax\n" /* without the sticky flags */
        "    jne 1f\n"
        "    cmpw 4(%rsp), %cx\n"
        "    jne 1f\n"
        "2:  addq $8, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    popq %rcx\n"
        "    notrack jmp *%rcx\n"
        "1:  ldmxcsr (%rsp)\n"
        "    fldcw 4(%rsp)\n"
        "    jmp 2b\n"
        "    .cfi_endproc\n"
        ".size co_switch_stack,.-co_switch_stack\n"
        /* First return lands here with the coroutine in r12. */
        ".type co_first_entry,@function\n"
        ".p2align 4\n"
        "co_first_entry:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined rip\n"
        "    endbr64\n"
        "    movq %r12, %rdi\n"
        "    callq coroutine_trampoline\n"
        "    ud2\n"
        "    .cfi_endproc\n"
        ".size co_first_entry,.-co_first_entry\n");
void co_first_entry(void) __attribute__((visibility("hidden")));
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl co_switch_stack\n"
        ".hidden co_switch_stack\n"
        ".type co_switch_stack,%function\n"
        ".p2align 4\n"
        "co_switch_stack:\n"
        "    .cfi_startproc\n"
        "    hint #34\n"
        "    sub sp, sp, #176\n"
        "    stp x19, x20, [sp, #0]\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mrs x10, fpcr\n"
        "    str x10, [sp, #160]\n"
        "    mov x9, sp\n"
        "    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldr x9, [sp, #160]\n"
        "    cmp x9, x10\n"
        "    b.eq 1f\n"
        "    msr fpcr, x9\n"
        "1:\n"
        "    ldp x19, x20, [sp, #0]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #176\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size co_switch_stack,.-co_switch_stack\n"
        ".type co_first_entry,%function\n"
        ".p2align 4\n"
        "co_first_entry:\n"
        "    hint #34\n"
        "    mov x0, x19\n"
        "    bl coroutine_trampoline\n"
        "    brk #1\n"
        ".size co_first_entry,.-co_first_entry\n");
void co_first_entry(void) __attribute__((visibility("hidden")));
#else
#error "no hand-written switch for this processor: configure with -Dcoroutine=ucontext"
#endif

bool co_backend_init(Coroutine *co)
{
    uintptr_t top = (uintptr_t)co->stack + co->stack_size;
    uint64_t *sp;

#if defined(__x86_64__)
    /* control words, r15 r14 r13 r12 rbx rbp, return address; the stack is 16-aligned in
     * co_first_entry before its call. */
    top = (top & ~(uintptr_t)15) - 16;
    sp = (uint64_t *)top - 8;
    memset(sp, 0, 8 * sizeof(*sp));
    __asm__ __volatile__("stmxcsr %0\n\tfnstcw %1"
                         : "=m"(*(uint32_t *)sp), "=m"(*((uint16_t *)sp + 2)));
    sp[4] = (uint64_t)(uintptr_t)co; /* r12 */
    sp[7] = (uint64_t)(uintptr_t)co_first_entry;
#else
    top &= ~(uintptr_t)15;
    sp = (uint64_t *)(top - 176);
    memset(sp, 0, 176);
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(sp[20]));
    sp[0] = (uint64_t)(uintptr_t)co;              /* x19 */
    sp[11] = (uint64_t)(uintptr_t)co_first_entry; /* x30 */
#endif
    co->sp = sp;
    return true;
}

void co_backend_fini(Coroutine *co)
{
    co->sp = NULL;
}

void co_backend_switch(Coroutine *from, Coroutine *to)
{
    co_switch_stack(&from->sp, to->sp);
}

bool co_backend_init_main(Coroutine *co)
{
    co->sp = NULL; /* saved by the first switch */
    return true;
}
