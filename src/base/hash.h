// Content hashes: what a run was calibrated on, what a cached file belongs to.
#pragma once
#include <cstddef>
#include <span>
#include <string>

namespace crumb {

/// SHA-256 of the bytes as 64 lower-case hexadecimal digits.
std::string sha256_hex(std::span<const std::byte> bytes);

}  // namespace crumb
