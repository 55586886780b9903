/* The vendor note: what a core file has no standard place for.
 *
 * One ELF note, owner "STILLFRAME", n_type SF_NOTE_CRASH, whose descriptor is
 *
 *	struct sf_note			`size` bytes
 *	struct sf_note_secret[secrets]	what the snapshot leaves out, by address
 *	annotations			`text_bytes` bytes
 *
 * Annotations are "key\0value\0" pairs of the application (stillframe.h), each
 * key once, in no order, UTF-8 not guaranteed.  The key SF_NOTE_REQUEST_KEY
 * comes first and is what the crashing thread worked on; other keys do not
 * begin with "stillframe.".  All integers are in the byte order of the core
 * file.
 *
 * Whoever writes another core of the same process, from outside, must leave out
 * the secret ranges too: they are the application's, not this file's.
 *
 * This header is the only definition of the layout.  The Python reader's
 * tables are generated from the DWARF of a compilation of this file; CI runs
 * the generator and diffs.  Fields are never renumbered or reused: add at the
 * end and raise SF_NOTE_FORMAT.
 */
#ifndef SF_NOTE_H
#define SF_NOTE_H

typedef unsigned char sf_u8;
typedef unsigned int sf_u32;
typedef int sf_s32;
typedef unsigned long long sf_u64;

#define SF_NOTE_OWNER	    "STILLFRAME"
#define SF_NOTE_REQUEST_KEY "stillframe.request"

enum sf_note_type {
	SF_NOTE_CRASH = 1,
};

enum sf_note_format {
	SF_NOTE_FORMAT = 1,
};

/* sf_note.flags: a bit is set when the statement is true of this snapshot. */
enum sf_flag {
	SF_FLAG_TRUNCATED = 1 << 0,	 /* a size cap cut stacks or modules */
	SF_FLAG_THREADS_MISSED = 1 << 1, /* some threads did not park in time */
	SF_FLAG_RERAISED = 1 << 2,	 /* a handler re-raised the original */
	SF_FLAG_LOW_MEMORY = 1 << 3, /* shrunk: head-room unknown or small */
	SF_FLAG_STACK_OVERFLOW = 1 << 4, /* sp was outside the thread's stack */
	SF_FLAG_INIT_PROCESS = 1 << 5,	 /* pid 1 of its pid namespace */
	SF_FLAG_FD_TABLE_SHARED = 1 << 6, /* close_range(UNSHARE) was refused */
	SF_FLAG_REGISTERS_ONLY = 1 << 7,  /* no memory could be written */
};

/* Why the library stopped holding the process; written last, in place. */
enum sf_release {
	SF_RELEASE_PENDING = 0,	  /* still held, or killed while held */
	SF_RELEASE_DONE = 1,	  /* the agent locked byte 2 */
	SF_RELEASE_NO_AGENT = 2,  /* nobody holds the directory lock */
	SF_RELEASE_UNCLAIMED = 3, /* STILLFRAME_CLAIM_MS passed */
	SF_RELEASE_AGENT_DIED =
		4, /* its lock (byte 1, or the directory) is gone */
	SF_RELEASE_TIMEOUT = 5,	 /* STILLFRAME_HOLD_MS passed */
	SF_RELEASE_DISABLED = 6, /* STILLFRAME_HOLD_MS is 0 */
};

/* Is our own code on the crashing stack?  The library says what it knows for
 * certain; who unwinds the stack finds interposers. */
enum sf_involvement {
	SF_INVOLVEMENT_NONE = 0,
	SF_INVOLVEMENT_FRAME = 1, /* it crashed in our code */
	SF_INVOLVEMENT_HANDLER =
		2, /* in a handler that we called, or after it */
	SF_INVOLVEMENT_INTERPOSER =
		3, /* in a function that one of ours had called */
};

struct sf_note {
	sf_u32 size;	/* bytes of this struct as its writer knew it */
	sf_u32 format;	/* SF_NOTE_FORMAT */
	sf_u32 library; /* library version, 0x00MMmmpp */
	sf_u32 flags;	/* enum sf_flag */

	sf_u8 id[16]; /* the id in the file's name, as bytes */

	sf_s32 pid; /* as the process sees itself (inner pid namespace) */
	sf_s32 tid; /* the crashing thread, likewise */
	sf_u32 uid;
	sf_u32 gid;

	sf_u64 start_ticks; /* field 22 of /proc/self/stat, clock ticks */
	sf_u64 pid_ns;	    /* inode numbers of /proc/self/ns/{pid,mnt,user}; */
	sf_u64 mnt_ns;	    /* 0 when it could not be read */
	sf_u64 user_ns;

	sf_u64 crash_realtime_ns;     /* CLOCK_REALTIME at handler entry */
	sf_u64 crash_monotonic_ns;    /* CLOCK_MONOTONIC at handler entry */
	sf_u64 snapshot_monotonic_ns; /* CLOCK_MONOTONIC, snapshot complete */
	sf_u64 release_monotonic_ns;  /* CLOCK_MONOTONIC, hold over; 0 before */

	sf_s32 signal;	   /* the outermost original fault */
	sf_s32 code;	   /* si_code */
	sf_u64 address;	   /* si_addr; 0 where the signal has none */
	sf_s32 sender_pid; /* si_pid for si_code <= 0, else 0 */
	sf_u32 sender_uid;

	sf_u32 release;	    /* enum sf_release */
	sf_u32 involvement; /* enum sf_involvement */
	sf_u32 threads;	    /* threads of the process at the crash */
	sf_u32 threads_captured;
	sf_u32 text_bytes; /* of annotations, see above */
	sf_u32 secrets;	   /* struct sf_note_secret after this struct */
};

/* Memory that the application declared secret: zeros in the snapshot, to the
 * byte.  Ranges may overlap and need not be mapped. */
struct sf_note_secret {
	sf_u64 address;
	sf_u64 size; /* bytes */
};

_Static_assert(sizeof(struct sf_note) == 160,
	       "the note's layout is a contract");
_Static_assert(sizeof(struct sf_note_secret) == 16,
	       "the note's layout is a contract");

#endif
