"""Why a GPU runs below its highest clocks: the driver's bits and the names people read."""

from __future__ import annotations

from typing import Final

GPU_IDLE: Final = 0x1
SW_POWER_CAP: Final = 0x4

_NAMES: Final = {
    GPU_IDLE: "gpu_idle",
    0x2: "applications_clocks_setting",
    SW_POWER_CAP: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}


def reason_names(bits: int) -> tuple[str, ...]:
    """Names in bit order; a bit that nobody named yet reads `unknown_0x800`."""
    present = [1 << place for place in range(bits.bit_length()) if bits >> place & 1]
    return tuple(_NAMES.get(bit, f"unknown_{bit:#x}") for bit in present)
