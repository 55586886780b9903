/** Implicit null checks: each is a SIGSEGV that the JVM turns into an exception. Prints ns of one. */
public class NullChecks {
    private static final int COUNT = 20_000;

    private int field = 1;

    private static int read(NullChecks object) {
        return object.field;
    }

    private static long storm(NullChecks object) {
        long start = System.nanoTime();
        int caught = 0;
        for (int i = 0; i < COUNT; i++) {
            try {
                read(object);
            } catch (NullPointerException expected) {
                caught++;
            }
        }
        if (caught != COUNT) {
            throw new AssertionError(caught);
        }
        return (System.nanoTime() - start) / COUNT;
    }

    public static void main(String[] arguments) {
        NullChecks object = new NullChecks();
        for (int i = 0; i < 100_000; i++) {
            object.field += read(object);
        }
        long best = Long.MAX_VALUE;
        for (int i = 0; i < 15; i++) {
            best = Math.min(best, storm(null));
        }
        System.out.println(best);
    }
}
