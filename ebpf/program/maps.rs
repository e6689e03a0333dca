//! maps is all that the programs remember and all that user space tells them.
//!
//! What has one size on every host is a [`Table`], which costs no lookup. Sizes that depend on the
//! host are those of the loader: see `Capacity`.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::NonNull;

use aya_ebpf::helpers::generated::bpf_map_lookup_elem;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, CpuMap, HashMap, LruHashMap, PerCpuArray, ReusePortSockArray};
use quiclane_ebpf::{
    ADDRESSES_COMPARED, Count, EpochValue, ListenerKey, PORT_WORDS, PortWord, SHARED_BUCKETS,
    Selection, SettingsValue,
};
use quiclane_wire::{EpochEntry, Epochs};

use crate::answer::{ANSWER_PREFIX_PLACES, ANSWERED_PLACES, LastAnswer};
use crate::budget::Shared;
use crate::memory::Scratch;
use crate::signer::Signer;

/// A map of one value, which the kernel gives the program the address of when it is loaded. All
/// zeros until user space writes it.
#[repr(transparent)]
pub(crate) struct Table<T>(UnsafeCell<T>);

// SAFETY: the programs only read it, or change it by means that are safe to share. User space
// replaces it word by word, and every word of these integers is valid beside every other.
unsafe impl<T> Sync for Table<T> {}

impl<T> Table<T> {
    #[inline(always)]
    pub(crate) fn get(&self) -> &T {
        let mut value = self.0.get();
        // Else the compiler knows that nobody here ever writes it, and takes the zeros for good.
        // SAFETY: no instruction at all.
        unsafe { asm!("/* {0} */", inout(reg) value, options(pure, nomem, nostack)) };
        // SAFETY: the address of a static, which lives as long as the program.
        unsafe { &*value }
    }
}

#[unsafe(link_section = ".data.settings")]
pub(crate) static SETTINGS: Table<SettingsValue> = Table(UnsafeCell::new(SettingsValue::ZERO));

#[unsafe(link_section = ".data.epochs")]
pub(crate) static EPOCHS: Table<[EpochValue; 256]> =
    Table(UnsafeCell::new([EpochValue::UNKNOWN; 256]));

/// The ports of the server, a bit each.
#[unsafe(link_section = ".data.ports")]
pub(crate) static PORTS: Table<[PortWord; PORT_WORDS]> =
    Table(UnsafeCell::new([PortWord::UNUSED; PORT_WORDS]));

/// The first addresses of [`LISTENERS`]: they are found faster than by hashing.
#[unsafe(link_section = ".data.addresses")]
pub(crate) static ADDRESSES: Table<[ListenerKey; ADDRESSES_COMPARED]> =
    Table(UnsafeCell::new([ListenerKey::NONE; ADDRESSES_COMPARED]));

/// Who was answered lately, by hash.
#[unsafe(link_section = ".bss.answered")]
pub(crate) static ANSWERED: Table<[LastAnswer; ANSWERED_PLACES]> =
    Table(UnsafeCell::new([LastAnswer::NEVER; ANSWERED_PLACES]));

/// The budgets of the source prefixes that are answered, by hash.
#[unsafe(link_section = ".bss.prefixes")]
pub(crate) static ANSWER_PREFIXES: Table<[Shared; ANSWER_PREFIX_PLACES]> =
    Table(UnsafeCell::new([Shared::FULL; ANSWER_PREFIX_PLACES]));

/// Every address and port that the server listens on, and its number.
#[map]
pub(crate) static LISTENERS: HashMap<ListenerKey, u32> = HashMap::with_max_entries(1, 0);

/// The sockets, by [`quiclane_ebpf::socket_key`].
#[map]
pub(crate) static SOCKETS: ReusePortSockArray = ReusePortSockArray::with_max_entries(1, 0);

/// The core of each worker of the live epoch.
#[map]
pub(crate) static WORKER_CPUS: Array<u32> = Array::with_max_entries(256, 0);

/// The cores that frames can be handed to.
#[map]
pub(crate) static CPUS: CpuMap = CpuMap::with_max_entries(1, 0);

/// The bucket of each source prefix.
#[map]
pub(crate) static PREFIXES: LruHashMap<u64, Shared> = LruHashMap::with_max_entries(1, 0);

/// The buckets that all sources share.
#[map]
pub(crate) static BUCKETS: Array<Shared> = Array::with_max_entries(SHARED_BUCKETS, 0);

/// What became of each frame, by [`Count::index`].
#[map]
static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Count::LEN, 0);

/// What became of each choice of a socket, by [`Selection::index`].
#[map]
static SELECTIONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Selection::LEN, 0);

/// What answers of each worker are signed with, by worker.
#[map]
pub(crate) static SIGNERS: PerCpuArray<Signer> = PerCpuArray::with_max_entries(256, 0);

/// What the copying program copies to.
#[map]
pub(crate) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// The table of epochs as [`quiclane_wire::classify`] wants it.
pub(crate) struct EpochMap;

impl Epochs for EpochMap {
    #[inline(always)]
    fn entry(&self, epoch: u8) -> Option<EpochEntry> {
        Some(EPOCHS.get()[usize::from(epoch)].entry())
    }
}

/// By [`Count::index`].
#[inline(always)]
pub(crate) fn count_frame(index: u32) {
    increment(&COUNTS, index);
}

#[inline(always)]
pub(crate) fn count_selection(selection: Selection) {
    increment(&SELECTIONS, selection.index());
}

#[inline(always)]
fn increment(counts: &PerCpuArray<u64>, index: u32) {
    if let Some(count) = of_core(counts, index) {
        // SAFETY: the map gave the pointer to this core's own value, and nothing preempts a
        // program to run another one that counts here.
        unsafe { *count.as_ptr() += 1 };
    }
}

/// An entry of an array.
#[inline(always)]
pub(crate) fn entry<T>(array: &Array<T>, index: u32) -> Option<&T> {
    let found = lookup((&raw const *array).cast(), index)?;
    // SAFETY: the kernel's own pointer to a value of this map, which lives as long as the program.
    Some(unsafe { found.cast().as_ref() })
}

/// An entry of an array, that of this core.
#[inline(always)]
pub(crate) fn of_core<T>(array: &PerCpuArray<T>, index: u32) -> Option<NonNull<T>> {
    lookup((&raw const *array).cast(), index).map(NonNull::cast)
}

/// Looks an index up as aya does, but with a key of eight bytes, of which the kernel reads the
/// lower four: a word of the stack that is written in part keeps what it held before, and without
/// CAP_PERFMON the verifier holds paths apart that differ in that.
#[inline(always)]
fn lookup(array: *const c_void, index: u32) -> Option<NonNull<c_void>> {
    let key = u64::from(index);
    // SAFETY: the address of a map of the kernel, and of a key that outlives the call.
    NonNull::new(unsafe { bpf_map_lookup_elem(array.cast_mut(), (&raw const key).cast()) })
}
