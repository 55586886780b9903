// A shop that adds up carts in a thread of its own.
// The bug: a guest has no account, and the discount is read from there.
#include <cstdio>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

namespace shop
{

struct Account {
	std::string name;
	long discount;
};

struct Cart {
	std::shared_ptr<Account> account;
	std::vector<long> prices;
};

class Till
{
      public:
	template <typename Carts> long total(const Carts &carts) const
	{
		long sum = 0;

		for (const auto &cart : carts)
			sum += price(cart);
		return sum;
	}

      private:
	static long price(const Cart &cart)
	{
		long sum = std::accumulate(cart.prices.begin(),
					   cart.prices.end(), 0L);

		return sum * (100 - cart.account->discount) / 100;
	}
};

} // namespace shop

int main()
{
	auto alice =
		std::make_shared<shop::Account>(shop::Account{"Alice", 10});
	std::vector<shop::Cart> carts{{alice, {300, 700}}, {nullptr, {250}}};
	std::thread till(
		[&carts] { std::printf("%ld\n", shop::Till().total(carts)); });

	till.join();
	return 0;
}
