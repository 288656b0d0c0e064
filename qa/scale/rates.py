"""The numbers of the simulation, each with where it is from. Measured here, published, or assumed: it says which."""

from __future__ import annotations

from dataclasses import dataclass, field

MB, GB, TB = 10**6, 10**9, 10**12


@dataclass(frozen=True)
class Machine:
    """One node of the fleet: 16 vCPU with 25 Gbit/s, as clouds offer it; one worker for each vCPU."""

    cores: int = 16
    workers: int = 16
    network: float = 25 / 8 * GB  # bytes/s each way
    price: float = 16 * 0.055  # dollars an hour: list prices of such nodes are 0.05 to 0.06 for each vCPU


@dataclass(frozen=True)
class Conversion:
    """What one verified conversion costs a worker."""

    # Measured (BERT-base, 440 MB): verified 0.81 s on 2 cores when this was planned, which is 0.27 GB/s for a core;
    # docs/performance.md has 0.64 s now, and 0.42 s without verifying: the read-back is a third.
    write_rate: float = 0.41 * GB
    check_rate: float = 0.79 * GB
    fixed: float = 0.05  # s of CPU beside the bytes: a tiny checkpoint verified in a warm process is 0.02 to 0.05
    reads_back: bool = True  # the output is read again from the store that it was written to
    attempt_restart: float = 1.0  # s until a lost worker's place is taken: an interpreter, and bertconv's imports


@dataclass(frozen=True)
class Store:
    """An object store in the same region."""

    latency: float = 0.03  # s to the first byte (assumed)
    # bytes/s of one request: AWS' guide to S3 wants one at a time for each 85 to 90 MB/s
    connection: float = 90 * MB
    reads_at_once: int = 3  # a block and two read ahead
    uploads_at_once: int = 1  # parts go up in order, one at a time
    block: int = 8 * 2**20
    part: int = 64 * 2**20
    small_reads: int = 8  # listing, config, tokenizer, index, header: one after the other
    small_writes: int = 6  # config, tokenizer, manifest
    get_price: float = 0.0004 / 1000
    put_price: float = 0.005 / 1000
    month_price: float = 0.023 / GB  # dollars a month for a byte kept
    get_limit: float = 5_500.0  # requests/s of one prefix (AWS)
    put_limit: float = 3_500.0


@dataclass(frozen=True)
class Trouble:
    """Shares of what goes wrong, all assumed, in thousandths of the items or of the attempts."""

    refused: float = 30.0  # of the items: damaged, unsafe, of no supported family; exit codes 4, 5, 6
    internal: float = 0.1  # of the items: a bug, exit code 9
    poison: float = 0.1  # of the items: kills whatever worker reads it
    transient: float = 5.0  # of the attempts: the store or the disk does not answer; exit codes 7, 8
    lost: float = 0.5  # of the attempts: the worker is gone, through no fault of the item
    node_losses: tuple[float, ...] = (1800.0,)  # s at which one node vanishes with all its workers
    node_away: float = 180.0  # s until another takes its place


@dataclass(frozen=True)
class Plan:
    """Calls in five minutes that the Hub answers on one plan (hub-docs, rate-limits.md, as of September 2025)."""

    name: str
    api: int
    resolvers: int


PLANS = (
    Plan("anonymous", 500, 3_000),
    Plan("free", 1_000, 5_000),
    Plan("PRO", 2_500, 12_000),
    Plan("Team", 3_000, 20_000),
    Plan("Enterprise", 6_000, 50_000),
    Plan("Enterprise Plus", 10_000, 100_000),
)
WINDOW = 300.0


@dataclass(frozen=True)
class HubUse:
    """Calls to the Hub for one item, beside the bytes."""

    api: float = 0.0  # list and look up; as a destination: create, preupload, commit, look for a pull request
    resolvers: float = 0.0
    resolver_per_block: bool = False  # HfFileSystem asks the resolver again for each range (huggingface_hub 2.4.0)


@dataclass(frozen=True)
class World:
    """All that a run is simulated with."""

    nodes: int = 4
    machine: Machine = field(default_factory=Machine)
    conversion: Conversion = field(default_factory=Conversion)
    store: Store = field(default_factory=Store)
    trouble: Trouble = field(default_factory=Trouble)
    plan: Plan | None = None
    hub: HubUse = field(default_factory=HubUse)
