// Runs Smack's own integration tests against a server that does not listen on port 5222.
import java.lang.reflect.Field;
import java.util.Map;
import org.igniterealtime.smack.inttest.Configuration;
import org.igniterealtime.smack.inttest.ConnectionConfigurationBuilderApplier;
import org.igniterealtime.smack.inttest.FailedTest;
import org.igniterealtime.smack.inttest.SmackIntegrationTestFramework;
import org.igniterealtime.smack.inttest.SuccessfulTest;
import org.igniterealtime.smack.inttest.TestNotPossible;

public class Runner {
    public static void main(String[] args) throws Exception {
        Configuration configuration = Configuration.newConfiguration(args);
        int port = Integer.parseInt(System.getenv("EIDER_PORT"));
        Field field = Configuration.class.getField("configurationApplier");
        field.setAccessible(true);
        ConnectionConfigurationBuilderApplier usual = (ConnectionConfigurationBuilderApplier) field.get(configuration);
        ConnectionConfigurationBuilderApplier ours = builder -> {
            usual.applyConfigurationTo(builder);
            builder.setPort(port);
        };
        field.set(configuration, ours);
        var result = new SmackIntegrationTestFramework(configuration).run();
        for (SuccessfulTest test : result.getSuccessfulTests()) {
            System.out.println("ok      " + test.concreteTest);
        }
        for (TestNotPossible test : result.getNotPossibleTests()) {
            System.out.println("not possible  " + test.concreteTest + ": " + test.testNotPossibleException.getMessage());
        }
        int failed = 0;
        for (Map.Entry<?, Throwable> entry : result.getImpossibleTestClasses().entrySet()) {
            System.out.println("class not possible  " + entry.getKey() + ": " + entry.getValue().getMessage());
        }
        for (FailedTest test : result.getFailedTests()) {
            failed++;
            System.out.println("FAILED  " + test.concreteTest + ": " + test.failureReason);
        }
        System.out.println("available " + result.getNumberOfAvailableTests());
        System.out.println(result.getSuccessfulTests().size() + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }
}
