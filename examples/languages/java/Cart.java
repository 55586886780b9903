import java.lang.reflect.Field;
import sun.misc.Unsafe;

/**
 * A shop that keeps prices outside of the heap, and adds them up in a thread of its own.
 * The bug: the memory of an empty cart was never allocated.
 */
public final class Cart {
    private final Unsafe memory;
    private final long prices;
    private final int count;

    private Cart(Unsafe memory, long prices, int count) {
        this.memory = memory;
        this.prices = prices;
        this.count = count;
    }

    private long price(int index) {
        return memory.getLong(prices + 8L * index);
    }

    private long total() {
        long sum = 0;
        for (int i = 0; i < count; i++) {
            sum += price(i);
        }
        return sum;
    }

    public static void main(String[] arguments) throws Exception {
        Field field = Unsafe.class.getDeclaredField("theUnsafe");
        field.setAccessible(true);
        Unsafe memory = (Unsafe) field.get(null);
        Thread till = new Thread(() -> System.out.println(new Cart(memory, 0, 2).total()), "till");
        till.start();
        till.join();
    }
}
