-- Customers of seven countries without orders and with more than the average balance.
-- tally: tpch.q22
SELECT v.country, count(*) AS customers, sum(v.c_acctbal) AS balance
FROM (
    SELECT substring(c.c_phone FROM 1 FOR 2) AS country, c.c_acctbal
    FROM tpch.customer AS c
    WHERE substring(c.c_phone FROM 1 FOR 2) IN ('13', '17', '18', '23', '29', '30', '31')
        AND c.c_acctbal > (
            SELECT avg(rich.c_acctbal)
            FROM tpch.customer AS rich
            WHERE rich.c_acctbal > 0.00
                AND substring(rich.c_phone FROM 1 FOR 2)
                    IN ('13', '17', '18', '23', '29', '30', '31')
        )
        AND NOT EXISTS (SELECT FROM tpch.orders AS o WHERE o.o_custkey = c.c_custkey)
) AS v
GROUP BY v.country
ORDER BY v.country
