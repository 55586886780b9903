# Perl's ways to die and to live: perl crash.pl WAY.
use strict;
use warnings;
use POSIX ();

# What a child blocks and ignores.
my $signals = 'sed -n /Sig[BI]/p /proc/self/status >&2; exit 4';

my %ways = (
	null => sub { print unpack('p', pack('J', 8)) },
	abort => sub { POSIX::abort() },
	kill => sub { kill SEGV => $$; sleep 10 },
	die => sub { die "no signal\n" },
	# The sub runs between two operations, long after the signal's own handler.
	handled => sub {
		$SIG{ABRT} = sub { exit 3 };
		kill ABRT => $$;
		sleep 10;
	},
	default_again => sub {
		local $SIG{ABRT} = 'IGNORE';
		kill ABRT => $$;
		$SIG{ABRT} = 'DEFAULT';
		kill ABRT => $$;
		sleep 10;
	},
	children => sub {
		for my $end ('exit 0', 'exit 3', 'kill -TERM $$', $signals) {
			print "$end: ", system('sh', '-c', $end), "\n";
		}
	},
);
$| = 1;
$ways{$ARGV[0]}->();
