"""What a scheduled backup waits for beside its time, as the machine is now: power and network.

Between the settings (`agent.limits`, pure) and the systems' answers (`agent.system.power`, `agent.system.network`).
"""

from __future__ import annotations

from agent import limits
from agent.system import network, power


def holding(settings: limits.Limits) -> str:
    """Why a scheduled backup waits now; empty where it need not. What the settings do not heed is not asked."""
    battery = power.on_battery() if settings.on_battery == "wait" else None
    if battery:
        return limits.holding(settings, battery, None)
    return limits.holding(settings, battery, network.metered() if settings.on_metered == "wait" else None)
