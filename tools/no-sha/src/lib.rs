//! Hides the processor's instructions for SHA-256 from a program, so that a machine that has them can measure what a program
//! does on one that has not: `LD_PRELOAD=libcustody_no_sha.so program`.
//!
//! Programs ask the processor what it can do with `CPUID`. Linux lets a process have that instruction fault
//! (`arch_prctl(ARCH_SET_CPUID, 0)`); the handler here then asks in its place, and takes one bit out of the answer. Everything
//! else of the program runs as it is, at its own speed. Source: Linux manual page arch_prctl(2); Intel 64 and IA-32 Architectures
//! Software Developer's Manual, volume 2A, "CPUID" (leaf 7, EBX bit 29).
//!
//! It does nothing on other processors, and where processor or hypervisor cannot let the instruction fault (`cpuid_fault` in
//! `/proc/cpuinfo`). The benchmark checks that the instructions are hidden before it measures.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod hide {
    use std::{arch::x86_64::__cpuid_count, ffi::c_int, mem, ptr};

    const ARCH_SET_CPUID: c_int = 0x1012;
    const FAULT: c_int = 0;
    const WORK: c_int = 1;

    const FEATURES: u32 = 7;
    const SHA: u32 = 1 << 29;

    /// The bytes of the instruction.
    const CPUID: [u8; 2] = [0x0f, 0xa2];

    #[used]
    #[unsafe(link_section = ".init_array")]
    static BEGIN: extern "C" fn() = begin;

    extern "C" fn begin() {
        // SAFETY: the loader runs this before the program has threads. The structure is valid when all of it is zero.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
            if libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()) == 0 {
                libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, FAULT);
            }
        }
    }

    extern "C" fn on_fault(_: c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: with SA_SIGINFO the kernel hands over the interrupted thread's registers, which nobody else touches meanwhile.
        // They point at the instruction that faulted, which can be read because it was run.
        unsafe {
            let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
            let instruction = registers[libc::REG_RIP as usize] as *const [u8; 2];
            if ptr::read_unaligned(instruction) != CPUID {
                // A fault of the program's own: it ends the program when it happens again.
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                return;
            }
            let (leaf, part) =
                (registers[libc::REG_RAX as usize] as u32, registers[libc::REG_RCX as usize] as u32);
            libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, WORK);
            let mut answer = __cpuid_count(leaf, part);
            libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, FAULT);
            if (leaf, part) == (FEATURES, 0) {
                answer.ebx &= !SHA;
            }
            registers[libc::REG_RAX as usize] = i64::from(answer.eax);
            registers[libc::REG_RBX as usize] = i64::from(answer.ebx);
            registers[libc::REG_RCX as usize] = i64::from(answer.ecx);
            registers[libc::REG_RDX as usize] = i64::from(answer.edx);
            registers[libc::REG_RIP as usize] += CPUID.len() as i64;
        }
    }
}
