//! maps is all that the programs remember and all that user space tells them.
//!
//! Sizes that depend on the host are those of the loader: see `Capacity`.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, CpuMap, HashMap, LruHashMap, PerCpuArray, ReusePortSockArray};
use quiclane_ebpf::{
    Count, EpochValue, ListenerKey, PORT_WORDS, PortWord, SHARED_BUCKETS, Selection, SettingsValue,
};
use quiclane_wire::{EpochEntry, Epochs};

use crate::budget::Shared;

#[map]
pub(crate) static SETTINGS: Array<SettingsValue> = Array::with_max_entries(1, 0);

#[map]
static EPOCHS: Array<EpochValue> = Array::with_max_entries(256, 0);

/// The ports of the server, a bit each.
#[map]
pub(crate) static PORTS: Array<PortWord> = Array::with_max_entries(PORT_WORDS, 0);

/// Every address and port that the server listens on, and its number.
#[map]
pub(crate) static LISTENERS: HashMap<ListenerKey, u32> = HashMap::with_max_entries(1, 0);

/// The same in the order of their numbers: the first ones are found faster than by hashing.
#[map]
pub(crate) static ADDRESSES: Array<ListenerKey> = Array::with_max_entries(1, 0);

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

/// The table of epochs as [`quiclane_wire::classify`] wants it.
pub(crate) struct EpochMap;

impl Epochs for EpochMap {
    #[inline(always)]
    fn entry(&self, epoch: u8) -> Option<EpochEntry> {
        EPOCHS.get(u32::from(epoch)).map(EpochValue::entry)
    }
}

#[inline(always)]
pub(crate) fn count_frame(count: Count) {
    increment(&COUNTS, count.index());
}

#[inline(always)]
pub(crate) fn count_selection(selection: Selection) {
    increment(&SELECTIONS, selection.index());
}

#[inline(always)]
fn increment(counts: &PerCpuArray<u64>, index: u32) {
    if let Some(count) = counts.get_ptr_mut(index) {
        // SAFETY: the map gave the pointer to this core's own value, and nothing preempts a
        // program to run another one that counts here.
        unsafe { *count += 1 };
    }
}
