/* The ways to die: one list for each subject, and the file of its name has
 * their functions. */
#pragma once

#include <stdint.h>

#define NOINLINE __attribute__((noinline, noclone))

#define NOT_HERE 98 /* exit status: not in this libc or processor */

extern int threads; /* second argument */
extern volatile int sink;
extern volatile uintptr_t zero; /* unknown to the optimizer */

int recurse(int depth); /* until the stack ends */

#define FAULT_WAYS(X)                                                          \
	X(null_read)                                                           \
	X(null_write)                                                          \
	X(wild)                                                                \
	X(non_canonical)                                                       \
	X(call_null)                                                           \
	X(exec_data)                                                           \
	X(ro_write)                                                            \
	X(bus)                                                                 \
	X(ill)                                                                 \
	X(div0)                                                                \
	X(int3)                                                                \
	X(unmapped)                                                            \
	X(guarded)                                                             \
	X(misaligned)                                                          \
	X(alignment_check)                                                     \
	X(null_stack)                                                          \
	X(corrupted_frames)

#define SIGNAL_WAYS(X)                                                         \
	X(abort_call)                                                          \
	X(assert_false)                                                        \
	X(kill_self)                                                           \
	X(raise_segv)                                                          \
	X(raise_abrt)                                                          \
	X(tgkill_self)                                                         \
	X(queue_self)                                                          \
	X(killed_from_outside)                                                 \
	X(fault_while_blocked_raw)                                             \
	X(raised_while_blocked)

#define CHECK_WAYS(X)                                                          \
	X(fortify)                                                             \
	X(stack_smash)                                                         \
	X(double_free)                                                         \
	X(invalid_free)

#define FILTER_WAYS(X)                                                         \
	X(seccomp_trap)                                                        \
	X(forbidding_filter)                                                   \
	X(filtered_int3)                                                       \
	X(filtered_abort)

#define OVERFLOW_WAYS(X)                                                       \
	X(overflow_main)                                                       \
	X(overflow_thread)                                                     \
	X(overflow_small_thread)                                               \
	X(overflow_supplied_stack)

#define THREAD_WAYS(X)                                                         \
	X(thread_segv)                                                         \
	X(with_threads)                                                        \
	X(with_spinning)                                                       \
	X(with_masked)                                                         \
	X(with_closing)                                                        \
	X(all_crash)                                                           \
	X(exit_during_hold)                                                    \
	X(threads_that_end)                                                    \
	X(attributes_at_the_end)                                               \
	X(crash_in_cancel)                                                     \
	X(with_loading)

#define HANDLER_WAYS(X)                                                        \
	X(recovered)                                                           \
	X(recovered_on_stack)                                                  \
	X(recovered_then_abort)                                                \
	X(recovered_by_mapping)                                                \
	X(recovered_with_large_frame)                                          \
	X(recovered_in_thread)                                                 \
	X(handled)                                                             \
	X(handler_exits)                                                       \
	X(handler_exits_with_a_thread)                                         \
	X(handler_aborts)                                                      \
	X(handler_reraises)                                                    \
	X(handler_reraises_and_exits)                                          \
	X(handler_reraises_undeferred)                                         \
	X(handler_restores_default)                                            \
	X(handler_once)                                                        \
	X(handler_faults)                                                      \
	X(handler_faults_undeferred)                                           \
	X(handler_execs)                                                       \
	X(handler_forks)                                                       \
	X(abort_handler_returns)                                               \
	X(abort_handler_jumps)                                                 \
	X(abort_blocked)                                                       \
	X(handler_without_a_stack)                                             \
	X(overflow_with_handler)                                               \
	X(overflow_with_handler_on_stack)                                      \
	X(fault_in_masked_handler)                                             \
	X(fault_in_masked_handler_with_handler)                                \
	X(fault_in_signal)                                                     \
	X(fault_in_signal_on_stack)                                            \
	X(blocked_fault)                                                       \
	X(blocked_fault_with_handler)                                          \
	X(blocked_raise)                                                       \
	X(blocked_raise_is_waited_for)                                         \
	X(blocked_raise_is_suspended_for)                                      \
	X(mask_is_read_back)                                                   \
	X(action_is_read_back)                                                 \
	X(tell_mask)                                                           \
	X(mask_survives_exec)                                                  \
	X(mask_survives_spawn)                                                 \
	X(vforked_child_changes_all)                                           \
	X(ignored)                                                             \
	X(fault_while_ignored)                                                 \
	X(fault_leaving_on_int)                                                \
	X(abort_leaving_on_int)                                                \
	X(filter_that_kills)                                                   \
	X(filter_that_traps)

#define EXIT_WAYS(X)                                                           \
	X(exit_normal)                                                         \
	X(crash_in_atexit)                                                     \
	X(crash_in_constructor)                                                \
	X(crash_in_destructor)                                                 \
	X(crash_in_tls_destructor)                                             \
	X(crash_while_exiting)

#define CHILD_WAYS(X)                                                          \
	X(forked_child)                                                        \
	X(vforked_child)                                                       \
	X(forked_by_thread)                                                    \
	X(after_exec)                                                          \
	X(spawned_child)

#define PLACE_WAYS(X)                                                          \
	X(not_dumpable)                                                        \
	X(hog)                                                                 \
	X(closed_descriptors)                                                  \
	X(all_descriptors_taken)                                               \
	X(no_descriptors)                                                      \
	X(no_file_size)                                                        \
	X(no_file_size_ever)                                                   \
	X(no_address_space)                                                    \
	X(no_signal_queue)                                                     \
	X(no_new_privileges)                                                   \
	X(dropped_privileges)                                                  \
	X(user_namespace)                                                      \
	X(empty_root)                                                          \
	X(read_only_root)                                                      \
	X(read_only_handover)                                                  \
	X(missing_handover)                                                    \
	X(replaced_handover)                                                   \
	X(full_handover)

#define ALL_WAYS(X)                                                            \
	FAULT_WAYS(X)                                                          \
	SIGNAL_WAYS(X)                                                         \
	CHECK_WAYS(X)                                                          \
	FILTER_WAYS(X)                                                         \
	OVERFLOW_WAYS(X)                                                       \
	THREAD_WAYS(X)                                                         \
	HANDLER_WAYS(X)                                                        \
	EXIT_WAYS(X)                                                           \
	CHILD_WAYS(X)                                                          \
	PLACE_WAYS(X)

#define DECLARE(name) void name(void);
ALL_WAYS(DECLARE)
#undef DECLARE
