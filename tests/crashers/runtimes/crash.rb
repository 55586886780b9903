# Ruby's ways to die and to live: ruby crash.rb WAY.
require 'fiddle'

# What a child blocks and ignores.
SIGNALS = 'sed -n /Sig[BI]/p /proc/self/status >&2; exit 4'.freeze

def recurse(levels)
  [levels].each { |n| recurse(n + 1) }
end

def overflows
  caught = 0
  20.times do
    recurse(0)
  rescue SystemStackError
    caught += 1
  end
  puts "overflows caught: #{caught}"
end

def children
  ['exit 0', 'exit 3', 'kill -TERM $$', SIGNALS].each do |ending|
    system('sh', '-c', ending)
    puts "#{ending}: #{$?.exitstatus.inspect} #{$?.termsig.inspect}"
  end
end

# The block runs between two instructions, long after the signal's own handler.
def handled
  trap('ABRT') { exit!(3) }
  Process.kill('ABRT', Process.pid)
  sleep 10
end

case ARGV.fetch(0)
when 'overflows' then overflows
when 'children' then children
when 'handled' then handled
when 'null' then Fiddle::Pointer.new(8)[0]
when 'abort' then Process.kill('ABRT', Process.pid)
when 'kill' then Process.kill('SEGV', Process.pid)
end
