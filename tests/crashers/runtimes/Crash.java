import java.lang.reflect.Field;
import java.util.concurrent.CountDownLatch;
import sun.misc.Unsafe;

/** The JVM's own use of signals, and its death: {@code java Crash WAY}. */
public final class Crash {
    private static final int TIMES = 20_000;
    /** What a child blocks and ignores. */
    private static final String SIGNALS = "sed -n /Sig[BI]/p /proc/self/status >&2; exit 4";
    private static volatile boolean done;
    private static volatile long sink;

    private int field;

    private static int read(Crash it) {
        return it.field;
    }

    /** Each null check without a branch is a SIGSEGV that the VM turns into an exception. */
    private static void nulls() {
        int caught = 0;
        for (int i = 0; i < TIMES; i++) {
            try {
                sink = read(null);
            } catch (NullPointerException expected) {
                caught++;
            }
        }
        System.out.println("null pointers caught: " + caught);
    }

    private static long recurse(long depth) {
        return recurse(depth + 1) + 1;
    }

    private static void overflow() {
        int caught = 0;
        for (int i = 0; i < 20; i++) {
            try {
                sink = recurse(0);
            } catch (StackOverflowError expected) {
                caught++;
            }
        }
        System.out.println(Thread.currentThread().getName() + " overflows caught: " + caught);
    }

    /** The guard pages of the main thread's stack and of a small one. */
    private static void overflows() throws InterruptedException {
        overflow();
        Thread small = new Thread(null, Crash::overflow, "small", 256 << 10);
        small.start();
        small.join();
    }

    /** Threads in compiled loops stop at a protected page when the collector asks. */
    private static void safepoints() throws InterruptedException {
        Thread[] threads = new Thread[4];
        CountDownLatch running = new CountDownLatch(threads.length);
        for (int i = 0; i < threads.length; i++) {
            threads[i] = new Thread(() -> {
                running.countDown();
                while (!done) {
                    long sum = 0;
                    for (long n = 0; n < 100_000; n++) {
                        sum += n ^ sum;
                    }
                    sink = sum;
                }
            });
            threads[i].start();
        }
        running.await();
        for (int i = 0; i < 50; i++) {
            byte[][] garbage = new byte[100][];
            for (int j = 0; j < garbage.length; j++) {
                garbage[j] = new byte[10_000];
            }
            System.gc();
        }
        done = true;
        for (Thread thread : threads) {
            thread.join();
        }
        System.out.println("collected");
    }

    private static Unsafe memory() throws ReflectiveOperationException {
        Field field = Unsafe.class.getDeclaredField("theUnsafe");
        field.setAccessible(true);
        return (Unsafe) field.get(null);
    }

    private static void unsafe() throws ReflectiveOperationException {
        memory().putAddress(0, 0);
    }

    private static void poke(Unsafe memory, long address, int[] times) {
        memory.putLong(address, times[0]++);
    }

    /** Hot enough that the fault is in code that the VM compiled. */
    private static void compiled() throws ReflectiveOperationException {
        Unsafe memory = memory();
        long address = memory.allocateMemory(8);
        int[] times = {0};
        while (times[0] < 1_000_000) {
            poke(memory, address, times);
        }
        poke(memory, 0, times);
    }

    /** With -XX:+CrashOnOutOfMemoryError the VM itself gives up. */
    private static void outOfMemory() {
        long[][] kept = new long[1 << 20][];
        for (int i = 0; i < kept.length; i++) {
            kept[i] = new long[1 << 17];
        }
    }

    private static native void write(long address);

    /** C code called from Java and called back by nobody. */
    private static void jni() {
        System.load(System.getProperty("crash.library"));
        write(0);
    }

    /** Processes the VM starts, one of which dies of a signal. */
    private static void children() throws Exception {
        for (String end : new String[] {"exit 0", "exit 3", "kill -TERM $$", SIGNALS}) {
            Process child = new ProcessBuilder("sh", "-c", end).inheritIO().start();
            System.out.println(end + ": " + child.waitFor());
        }
    }

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "nulls" -> nulls();
            case "overflows" -> overflows();
            case "safepoints" -> safepoints();
            case "unsafe" -> unsafe();
            case "compiled" -> compiled();
            case "jni" -> jni();
            case "outOfMemory" -> outOfMemory();
            case "children" -> children();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }
}
