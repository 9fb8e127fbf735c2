// What this process uses and what the machine still has, for estimates before a run and figures after it.
#pragma once
#include <cstdint>

namespace crumb {

/// Resident set of this process in bytes, now and at its peak (VmRSS, VmHWM). 0 where /proc does not tell.
std::int64_t resident_bytes();
std::int64_t peak_resident_bytes();

/// Sets the peak back to the present (Linux: /proc/self/clear_refs). False where that is not allowed; the
/// peak then goes on.
bool reset_peak_resident();

/// Memory that a new allocation may use: the smaller of MemAvailable and what the control group leaves.
std::int64_t available_bytes();

}  // namespace crumb
