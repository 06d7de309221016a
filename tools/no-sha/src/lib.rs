//! Hides the processor's SHA-256 instructions from a program. On a machine that has these instructions, one can then
//! measure how the program runs on a machine without them: `LD_PRELOAD=libcustody_no_sha.so program`.
//!
//! Programs find out what the processor can do with the instruction `CPUID`. Linux can make that instruction fault in a
//! process (`arch_prctl(ARCH_SET_CPUID, 0)`). The fault handler in this library then executes `CPUID` for the program
//! and removes one bit from the answer. Everything else in the program runs unchanged, at full speed. Source: Linux
//! manual page arch_prctl(2); Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2A, "CPUID" (leaf 7,
//! EBX bit 29).
//!
//! The library does nothing on other processors, and where the processor or the hypervisor cannot make the instruction
//! fault (`cpuid_fault` in `/proc/cpuinfo`). The benchmark checks that the instructions are hidden before it measures.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod hide {
    use std::{arch::x86_64::__cpuid_count, ffi::c_int, mem, ptr};

    const ARCH_SET_CPUID: c_int = 0x1012;
    const CPUID_FAULTS: c_int = 0;
    const CPUID_WORKS: c_int = 1;

    const EXTENDED_FEATURES_LEAF: u32 = 7;
    const SHA_BIT: u32 = 1 << 29;

    /// The machine code of the instruction `CPUID`.
    const CPUID: [u8; 2] = [0x0f, 0xa2];

    #[used]
    #[unsafe(link_section = ".init_array")]
    static INSTALL_FAULT_HANDLER: extern "C" fn() = install_fault_handler;

    extern "C" fn install_fault_handler() {
        // SAFETY: the loader runs this function before the program has threads. A `sigaction` of all zero bytes is
        // valid.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
            if libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()) == 0 {
                libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, CPUID_FAULTS);
            }
        }
    }

    extern "C" fn on_fault(_: c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: with SA_SIGINFO the kernel passes the registers of the interrupted thread, and nothing else accesses
        // them during the handler. The instruction pointer points at the instruction that faulted, which is readable
        // because it was executed.
        unsafe {
            let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
            let instruction = registers[libc::REG_RIP as usize] as *const [u8; 2];
            if ptr::read_unaligned(instruction) != CPUID {
                // The program itself has caused this fault. With the default action, it ends the program when it occurs
                // again.
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                return;
            }
            let (leaf, part) =
                (registers[libc::REG_RAX as usize] as u32, registers[libc::REG_RCX as usize] as u32);
            libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, CPUID_WORKS);
            let mut answer = __cpuid_count(leaf, part);
            libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, CPUID_FAULTS);
            if (leaf, part) == (EXTENDED_FEATURES_LEAF, 0) {
                answer.ebx &= !SHA_BIT;
            }
            registers[libc::REG_RAX as usize] = i64::from(answer.eax);
            registers[libc::REG_RBX as usize] = i64::from(answer.ebx);
            registers[libc::REG_RCX as usize] = i64::from(answer.ecx);
            registers[libc::REG_RDX as usize] = i64::from(answer.edx);
            registers[libc::REG_RIP as usize] += CPUID.len() as i64;
        }
    }
}
