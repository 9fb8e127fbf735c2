// Ctrl-C: the handler sets a flag, long loops ask for it between steps, so that state is always whole when a
// run stops.
#pragma once

namespace crumb {

/// SIGINT and SIGTERM set the flag once; a second SIGINT ends the process at once.
void install_interrupt_handler();
bool interrupted() noexcept;
/// The signal was SIGTERM: the whole program is meant, not only what it is doing.
bool terminated() noexcept;
void set_interrupted(bool value) noexcept;  // for tests

/// Throws Error(kInterrupted) when the flag is set.
void throw_if_interrupted(const char* where);

}  // namespace crumb
